# %% [markdown]
# # From a raw pair to a refined DSM
#
# You have two satellite images with RPCs, as the provider delivers them, and nothing else. This is how
# they become a refined DSM: match, prepare, refine, evaluate. Four commands; everything goes block by
# block, so it works for a whole scene, too.
#
# This page is executed on a small simulated pair. To execute it on yours, put the images (`img_01.tif`,
# `img_02.tif`) and, if there is one, a reference DSM (`reference.tif`) into a folder, and give it as
# `DATA` (`make docs DATA=folder`).

# %%
import os
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import rasterio
from matplotlib.colors import LightSource

# %%
if "DATA" in os.environ:
    for path in Path(os.environ["DATA"]).glob("*.tif"):
        shutil.copy(path, path.name)
else:
    os.system("resdepth simulate town -o scene --seed 3 --style suburb --size 448 -q")
    for number, name in enumerate(("date1a", "date1b"), 1):
        shutil.copy(f"scene/data/satellite_views/raw/{name}.tif", f"img_0{number}.tif")
    shutil.copy("scene/data/dsm/reference.tif", "reference.tif")
has_reference = Path("reference.tif").exists()

# %% [markdown]
# ## The images
#
# They lie on no map yet; the RPC in the tags tells which ray each pixel has seen. `resdepth info` states
# what a raster is.

# %%
figure, axes = plt.subplots(1, 2, figsize=(8.6, 4.3), layout="constrained")
for axis, name in zip(axes, ("img_01.tif", "img_02.tif"), strict=True):
    with rasterio.open(name) as image:
        grey = image.read(1).astype(float)
    axis.imshow(grey, cmap="gray", vmin=np.percentile(grey, 2), vmax=np.percentile(grey, 98))
    axis.set(title=name, xticks=[], yticks=[])
plt.show()

# %%
# !resdepth info img_01.tif

# %% [markdown]
# ## Match
#
# `match` makes a DSM of raw images alone: semi-global, from coarse to fine; it needs no first DSM and no
# range of heights. If you have a DSM from s2p, CARS, Ames Stereo Pipeline or another, take that instead,
# and skip this step.

# %%
# !resdepth match img_01.tif img_02.tif -o my_dsm.tif -q

# %% [markdown]
# ## Prepare
#
# `prepare` brings all to one grid in metres and to one zero of heights, fills voids, takes the
# contradiction between the RPCs out, and moves the DSM onto the reference DSM if there is one. It states
# what it has found.

# %%
reference = "--reference reference.tif" if has_reference else ""
# !resdepth prepare --dsm my_dsm.tif --image img_01.tif --image img_02.tif {reference} -o prepared -q

# %% [markdown]
# ## Refine
#
# The bundled model `fusion` matches the images again around the DSM, and weighs both. Its second band is
# the expected error of each height.

# %%
# !resdepth refine prepared -q


# %%
def shade(path):
    """A hillshade of a DSM."""
    with rasterio.open(path) as raster:
        heights = raster.read(1, masked=True).astype(float).filled(np.nan)
        side = raster.res[0]
    return LightSource(315, 45).hillshade(np.nan_to_num(heights, nan=np.nanmin(heights)), dx=side, dy=side)


shown = {"matched": "my_dsm.tif", "refined": "prepared/results/refined.tif"}
if has_reference:
    shown["reference DSM"] = "prepared/data/dsm/reference.tif"
figure, axes = plt.subplots(1, len(shown), figsize=(4 * len(shown), 4.3), layout="constrained")
for axis, (title, path) in zip(axes, shown.items(), strict=True):
    axis.imshow(shade(path), cmap="gray", vmin=0, vmax=1)
    axis.set(title=title, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## Evaluate
#
# With a reference DSM, `evaluate` says what it was good for; `--baselines` puts it beside the best median
# filter, which needs no network. It also writes `prepared/evaluation/evaluation.html`, a page to look at.

# %%
command = "resdepth evaluate prepared -q" if has_reference else "echo there is no reference DSM"
# !{command}

# %% [markdown]
# ## A rough DSM
#
# The DSM of a good matcher stays about as it is: it has seen already what the images show. Many DSMs are
# rougher. Refine one: the same heights with noise of 0.7 m, as a simple matcher leaves it. In Python, as
# an array comes back:

# %%
import resdepth

with rasterio.open("my_dsm.tif") as raster:
    heights, profile = raster.read(1, masked=True), raster.profile
noise = np.random.default_rng(0).normal(0, 0.7, heights.shape).astype(np.float32)
with rasterio.open("rough.tif", "w", **profile) as raster:
    raster.write(heights + noise, 1)
refined, error = resdepth.refine("rough.tif", ["img_01.tif", "img_02.tif"], uncertainty=True)
print(f"expected error: {np.nanmedian(error):.2f} m (median)")
for title, surface in {"rough": heights + noise, "refined": refined}.items():
    difference = np.ma.filled(surface - heights, np.nan)
    print(f"{title}: {np.nanmean(np.abs(difference)):.2f} m from the matched DSM")

# %% [markdown]
# ## Where to go from here
#
# - [Preparing data](../prepare.md): the output folder of a pipeline instead of single files, masks, other
#   zeros of heights.
# - [Refining](../refine.md): a part of the map, many processes, uncertainty, STAC.
# - [What real pairs gave](../preparing.md).
