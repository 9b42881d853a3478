"""Evaluating surfaces against a reference DSM: rasters of any size in, figures that people trust out."""
