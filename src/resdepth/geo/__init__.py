"""Rasters, vectors, grids, windows, RPCs, coordinate reference systems."""
