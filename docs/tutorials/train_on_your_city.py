# %% [markdown]
# # Train on your city
#
# A network that has learned what the houses of *your* city look like refines the rest of it better than
# any other. It needs an initial DSM, two ortho-images, and a reference DSM (from lidar, say) of a part of
# the city.
#
# Here a small simulated town stands for the city, and a tiny network is trained for seconds, to show the
# steps. What it takes for real: the same commands, a square kilometre or more, and a
# [GPU](../train.md#devices).

# %%
# !resdepth simulate town -o town --seed 3 --style suburb --size 320 --gsd 0.5 -q

# %% [markdown]
# `town/data` looks like a folder that [`resdepth prepare`](../prepare.md) makes of your data.
#
# ## The configuration
#
# The area is cut into five stripes: three train, one validates, and stripe 0 is kept for the test. What
# is left out has its default ([every key](../configuration.md)); in Python a configuration is a dict.

# %%
import json
from pathlib import Path

import resdepth

town = {
    "name": "town",
    "raster_in": "town/data/dsm/initial.tif",
    "raster_gt": "town/data/dsm/reference.tif",
    "path_image_list": "town/data/image_selection/imagelist.txt",
    "allocation_strategy": "5-crossval_vertical",
    "test_stripe": 0,
}
pair = "town/data/image_selection/pairlist_simple.txt"
training = {
    "datasets": [
        {**town, "area_type": "train+val", "path_pairlist_training": pair, "path_pairlist_validation": pair}
    ],
    "model": {"input_channels": "geom-stereo", "depth": 3, "start_kernel": 8},
    "training_settings": {"n_training_samples": 600, "tile_size": 64, "batch_size": 8, "n_epochs": 5},
    "optimizer": {"learning_rate": 0.002},
    "scheduler": {"name": "StepLR", "settings": {"step_size": 3}},
    "output": {"output_directory": "logs", "tboard_log_dir": "logs/tensorboard"},
}
_ = Path("train.json").write_text(json.dumps(training, indent=2))

# %% [markdown]
# `check` looks for every mistake at once, before anything is written: in the file, in the lists, in the
# rasters.

# %%
# !resdepth check train.json

# %% [markdown]
# ## Train
#
# Each epoch ends with the error on the validation stripe, beside that of the initial DSM. A run that is
# stopped continues with `resdepth train --resume RUN_FOLDER`. Progress goes to stderr, or to a function, here
# to one that keeps quiet.


# %%
def quiet(what, done, total):
    pass


run = resdepth.train(training, progress=quiet)
print(*Path(run, "run.log").read_text().splitlines()[-7:], sep="\n")

# %% [markdown]
# ## Test
#
# The stripe that no training has seen is refined, and compared with the reference DSM.

# %%
testing = {
    "datasets": [{**town, "area_type": "test", "path_pairlist": pair}],
    "model": {"path": str(run / "model.safetensors")},
    "general": {"tile_size": 64},
    "output": {"directory": "results"},
}
for result in resdepth.test(testing, progress=quiet):
    before, after = result.evaluation.initial["overall"], result.evaluation.refined["overall"]
    print(f"MAE {before.mae:.2f} m -> {after.mae:.2f} m, RMSE {before.rmse:.2f} m -> {after.rmse:.2f} m")

# %% [markdown]
# A page to look at is `results/town/evaluation.html`. So short a training takes the noise away, and knows
# little of houses.
#
# ## Refine the rest of the city
#
# No configuration, no reference DSM, any size:

# %%
dsm, views = "town/data/dsm/initial.tif", "town/data/satellite_views"
model = run / "model.safetensors"
# !resdepth refine {dsm} {views}/date1a.tif {views}/date1b.tif --model {model} -o city.tif -q

# %% [markdown]
# ## Where to go from here
#
# - [Training](../train.md): GPUs, many data sets, how to see that it learns.
# - [Model files](../models.md): pass the model on, or export it to ONNX.
# - [Accuracy](../accuracy.md): what full trainings reach on towns that they have not seen.
