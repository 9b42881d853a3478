"""Evaluating surfaces against a truth: rasters of any size in, figures that people trust out."""
