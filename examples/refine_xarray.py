# Refine a DataArray, and keep heights, errors and where heights come from in one NetCDF or Zarr store.
import sys

import rioxarray

import resdepth

dsm = rioxarray.open_rasterio(sys.argv[1], masked=True).squeeze("band")
refinement = resdepth.refine(dsm, sys.argv[2:], full=True)
layers = refinement.to_xarray()
print(layers["error"].median().item(), "m are expected as an error")
(refinement.dsm - dsm).rio.to_raster("change.tif")
