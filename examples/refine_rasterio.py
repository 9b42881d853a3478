# Refine an open data set of rasterio, and write the result with another profile.
import sys

import rasterio

import resdepth

with rasterio.open(sys.argv[1]) as dsm:
    refined = resdepth.refine(dsm, sys.argv[2:])
profile = {**refined.profile, "compress": "deflate", "predictor": 3}
with rasterio.open("refined.tif", "w", **profile) as file:
    file.write(refined.read())
