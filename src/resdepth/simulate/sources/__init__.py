"""Reference surfaces from files: elevation rasters, CityJSON city models, and LAS or LAZ point clouds."""
