# Refine a DEM of xDEM, and compare slopes before and after.
import sys

import numpy as np
import xdem

import resdepth

dem = xdem.DEM(sys.argv[1])
refined = resdepth.refine(dem, sys.argv[2:])
for name, surface in {"initial": dem, "refined": refined}.items():
    print(name, np.ma.median(xdem.terrain.slope(surface).data), "degrees")
refined.to_file("refined.tif")
