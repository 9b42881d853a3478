"""Evaluating surfaces against a reference DSM: rasters of any size in, metrics that people trust out."""
