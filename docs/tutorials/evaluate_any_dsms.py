# %% [markdown]
# # Evaluate any two DSMs
#
# Which DSM is better, and where? `evaluate` takes any surfaces, whoever made them, and a reference DSM,
# on any grids of one CRS. No network is needed, and memory does not grow with the area.
#
# Two DSMs of a simulated suburb stand for yours: what matching gave, and a median filter of it.

# %%
# !resdepth simulate town -o town --seed 3 --style suburb --size 384 -q >simulated.txt

# %%
import matplotlib.pyplot as plt
import numpy as np
import rasterio
from scipy.ndimage import median_filter

import resdepth

DSM, MASK = "town/data/dsm", "town/data/mask"
with rasterio.open(f"{DSM}/initial.tif") as raster:
    heights, profile = raster.read(1), raster.profile
with rasterio.open("filtered.tif", "w", **profile) as raster:
    raster.write(median_filter(heights, 21), 1)

# %% [markdown]
# ## Two DSMs, one reference DSM
#
# `initial` is what the other one is compared with. Masks make classes; a mask is a raster of 0 and 1, or
# a file of polygons.

# %%
evaluated = resdepth.evaluate(
    "filtered.tif", f"{DSM}/reference.tif", initial=f"{DSM}/initial.tif",
    masks={"building": f"{MASK}/building.tif"},
)  # fmt: skip
print(f"{'':12}{'MAE':>16}{'RMSE':>16}{'NMAD':>16}")
for name, before in evaluated.initial.items():
    after = evaluated.refined[name]
    pairs = [(before.mae, after.mae), (before.rmse, after.rmse), (before.nmad, after.nmad)]
    print(f"{name:12}" + "".join(f"{one:8.2f} -> {other:.2f}" for one, other in pairs))

# %% [markdown]
# The filter takes noise away on the ground, and roofs lose their edges. Which of both counts for you, the
# classes tell, and the metrics: MAE sees everything, NMAD only how wide the bulk of the errors is, RMSE
# above all the large ones. [What each of them means](../evaluate.md).

# %%
with rasterio.open(f"{DSM}/reference.tif") as raster:
    reference = raster.read(1)
figure, axes = plt.subplots(1, 2, figsize=(8.6, 4.3), layout="constrained")
for axis, (title, surface) in zip(
    axes, {"matched": heights, "median filter": median_filter(heights, 21)}.items(), strict=True
):
    drawn = axis.imshow(surface - reference, cmap="RdBu", vmin=-3, vmax=3)
    axis.set(title=f"error, {title} [m]", xticks=[], yticks=[])
figure.colorbar(drawn, ax=axes, shrink=0.8)
plt.show()

# %% [markdown]
# ## A shift is not an error of shape
#
# A DSM that lies one pixel beside the reference DSM has errors at every wall, though its shape is right.
# `evaluate` measures the shift (after Nuth and Kääb), and `--align` takes it out.

# %%
with rasterio.open("moved.tif", "w", **profile) as raster:
    raster.write(np.roll(heights, (2, -3), axis=(0, 1)) + 0.5, 1)

# %%
# !resdepth evaluate moved.tif --reference {DSM}/reference.tif -o as_it_lies -q
# !resdepth evaluate moved.tif --reference {DSM}/reference.tif -o aligned --align -q

# %% [markdown]
# ## The page, and files for other programs
#
# The command writes metrics as JSON, CSV and Markdown, error maps with styles for QGIS, and one page with
# all of it: swipe, maps, charts, profiles, 3D.

# %%
# !resdepth evaluate filtered.tif --reference {DSM}/reference.tif --initial {DSM}/initial.tif -o evaluated -q
# !ls evaluated

# %% [markdown]
# ## Where to go from here
#
# - [Evaluating](../evaluate.md): intervals, edges of buildings, regions, baselines.
# - [What will hurt](../doctor.md): what is wrong with data, before they are evaluated.
