# Refine a DataArray, and keep heights, errors and where heights come from beside each other in a NetCDF file.
import sys

import rioxarray

import resdepth

dsm = rioxarray.open_rasterio(sys.argv[1], masked=True).squeeze("band")
refinement = resdepth.refine(dsm, sys.argv[2:], full=True)
layers = refinement.to_xarray().assign(change=refinement.dsm - dsm)
print(layers["error"].median().item(), "m are expected as an error")
layers.to_netcdf("refined.nc")
