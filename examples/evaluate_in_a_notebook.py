# Evaluate rasters of different libraries, and plot how errors are distributed.
import sys

import rioxarray
import xdem

import resdepth

refined, reference = rioxarray.open_rasterio(sys.argv[1], masked=True), xdem.DEM(sys.argv[2])
found = resdepth.evaluate(refined, reference)
found.plot().savefig("errors.png")
print(found.to_xarray()[["mae", "nmad"]].sel(surface="refined").to_dataframe())
