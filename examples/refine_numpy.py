# Refine arrays that know nothing of a map: voids are a number, and the pixel size is stated.
import sys

import numpy as np
import rasterio

import resdepth

heights, *images = [rasterio.open(path).read(1) for path in sys.argv[1:]]
refined = resdepth.refine(heights, images, nodata=-9999, gsd=0.5)
np.save("refined.npy", refined)
print(np.nanmedian(np.abs(refined - heights)), "m is the median change")
