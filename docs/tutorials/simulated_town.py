# %% [markdown]
# # A simulated town
#
# See what refining does where the reference DSM is known to the pixel: in a town that is made up.
# Satellite images of it are rendered, an initial DSM is matched from them, and a network that has learned
# from other towns refines it. It takes about a minute on two cores.
#
# `resdepth demo` does all of this in one command. Here it is done step by step.

# %% [markdown]
# ## Make a town
#
# The same seed gives the same town, byte for byte. 384 pixels of 0.25 m are a few blocks of houses.

# %%
# !resdepth simulate town -o town --seed 3 --style suburb --size 384 -q

# %% [markdown]
# The folder has what a real project has: raw images with RPCs, ortho-images, the DSM that was matched of
# them with its voids filled, and masks. In addition it has the reference DSM, which real projects lack.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import rasterio
from matplotlib.colors import LightSource

DATA = Path("town/data")


def read(path):
    """The heights or grey values of a raster, NaN where it is void."""
    with rasterio.open(path) as raster:
        return raster.read(1, masked=True).astype("float32").filled(np.nan)


def show(**surfaces):
    """Hillshades side by side."""
    _, axes = plt.subplots(1, len(surfaces), figsize=(4 * len(surfaces), 4.3), layout="constrained")
    for axis, (title, heights) in zip(axes, surfaces.items(), strict=True):
        filled = np.nan_to_num(heights, nan=np.nanmin(heights))
        shade = LightSource(315, 45).hillshade(filled, dx=0.25, dy=0.25)
        axis.imshow(shade, cmap="gray", vmin=0, vmax=1)
        axis.set(title=title.replace("_", " "), xticks=[], yticks=[])
    plt.show()


initial, reference = read(DATA / "dsm/initial.tif"), read(DATA / "dsm/reference.tif")
show(initial_DSM=initial, reference_DSM=reference)

# %% [markdown]
# ## Refine
#
# `town-stereo` is a small ResDepth that has learned from simulated towns. It sees the DSM and two
# ortho-images.

# %%
import resdepth

images = [DATA / "satellite_views" / f"{name}.tif" for name in ("date1a", "date1b")]
refined = resdepth.refine(DATA / "dsm/initial.tif", images, "town-stereo")
show(initial_DSM=initial, refined_DSM=refined, reference_DSM=reference)

# %% [markdown]
# ## How good is it?
#
# Errors before and after, by class; the mask of buildings comes with the scene.

# %%
evaluated = resdepth.evaluate(
    refined, reference, initial=initial, gsd=0.25, masks={"building": read(DATA / "mask/building.tif") == 1}
)
for name, before in evaluated.initial.items():
    after = evaluated.refined[name]
    print(
        f"{name:10} MAE {before.mae:.2f} -> {after.mae:.2f} m, RMSE {before.rmse:.2f} -> {after.rmse:.2f} m"
    )

# %%
limit = 3
figure, axes = plt.subplots(1, 2, figsize=(8.6, 4.3), layout="constrained")
for axis, (title, heights) in zip(axes, {"before": initial, "after": refined}.items(), strict=True):
    drawn = axis.imshow(heights - reference, cmap="RdBu", vmin=-limit, vmax=limit)
    axis.set(title=f"error {title} [m]", xticks=[], yticks=[])
figure.colorbar(drawn, ax=axes, shrink=0.8)
plt.show()

# %% [markdown]
# ## Where to go from here
#
# - [From a raw pair to a refined DSM](raw_pair.md): with images of your own.
# - [Train on your city](train_on_your_city.md): a network that has learned what *your* houses look like.
# - [Simulating scenes](../simulate.md): from a DSM, a city model or a point cloud instead of a made town.
