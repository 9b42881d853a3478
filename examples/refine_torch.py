# Refine a tensor as one step among others in PyTorch; the result is a tensor on the same device.
import sys

import rasterio
import torch

import resdepth

heights = torch.from_numpy(rasterio.open(sys.argv[1]).read(1))
refined = resdepth.refine(heights, gsd=0.5)
steps = torch.diff(torch.nan_to_num(refined), dim=1).abs()
print(steps.mean().item(), "m from a pixel to the next")
