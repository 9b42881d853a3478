# Refine a raster that dask holds in chunks, and go on lazily.
import sys

import rioxarray

import resdepth

dsm = rioxarray.open_rasterio(sys.argv[1], masked=True, chunks={"x": 512, "y": 512})
refined = resdepth.refine(dsm, sys.argv[2:])
change = abs(refined - dsm).mean()  # not computed yet
print(change.compute().item(), "m is the mean change")
