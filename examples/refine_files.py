# Refine a DSM of any size with the raw images that it was made from, file to file.
import sys

import resdepth

dsm, *images = sys.argv[1:]
refinement = resdepth.refine(dsm, images, output="refined.tif", overwrite=True, full=True)
print(refinement.summary())
print(refinement.paths[0])
