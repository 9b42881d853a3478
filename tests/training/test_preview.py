"""The patches that a training shows."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

from conftest import MadeScene, make_model, make_scene
from resdepth import train
from resdepth.data.patches import ValidationSamples, validation_patches
from resdepth.data.scene import Scene
from resdepth.geo.grid import Sides
from resdepth.geo.windows import Window
from resdepth.models.model import new_network
from resdepth.report.pictures import patch_picture
from resdepth.training.loop import SHOWN, Showcase


def samples_of(scene: MadeScene, region: Window) -> ValidationSamples:
    model = make_model()
    opened = Scene.open(
        scene.path("initial.tif"),
        [scene.path("ortho1.tif"), scene.path("ortho2.tif")],
        reference=scene.path("reference.tif"),
    )
    patches = validation_patches(opened, [region], [(0, 1)], tile=16)
    return ValidationSamples([patches], 16, model.normalization, model.architecture.inputs)


def test_the_same_few_patches_are_shown_as_the_network_refines_them(tmp_path: Path) -> None:
    samples = samples_of(make_scene(tmp_path, 64, 160), Window(0, 32, 64, 64))
    network = new_network("UNet", make_model().architecture.settings).train()
    showcase = Showcase(samples)
    with torch.no_grad():
        shown = showcase.refined_by(network, 2.5, torch.device("cpu"))
    assert len(shown) == SHOWN
    assert network.training
    for patch in shown:
        assert patch.refined is not None
        assert patch.initial.shape == patch.refined.shape == patch.reference.shape == (16, 16)
        assert abs(float(patch.initial.mean())) < 1e-3
        assert patch.sides == (0.5, 0.5)
    again = Showcase(samples).refined_by(network, 2.5, torch.device("cpu"))
    for one, other in zip(shown, again, strict=True):
        np.testing.assert_array_equal(one.initial, other.initial)


def test_fewer_tiles_than_wanted_are_all_shown(tmp_path: Path) -> None:
    samples = samples_of(make_scene(tmp_path, 64, 160), Window(16, 32, 16, 32))
    assert len(Showcase(samples).refined_by(torch.nn.Identity(), 1.0, torch.device("cpu"))) == 2


def test_pictures_become_rare() -> None:
    due = [epoch for epoch in range(1, 36) if Showcase.is_due(epoch, end=35)]
    assert due == [*range(1, 11), 20, 30, 35]


def test_a_picture_shows_five_surfaces_side_by_side() -> None:
    reference = np.zeros((8, 8), np.float32)
    picture = patch_picture(reference - 4, reference + 4, reference, Sides(0.5, 0.5))
    assert picture.shape == (8, 5 * 8 + 4 * 4, 3)
    before, after = picture[4, 3 * 12 + 4], picture[4, 4 * 12 + 4]
    assert before[2] > before[0] + 50, "below the reference DSM: blue"
    assert after[0] > after[2] + 50, "above the reference DSM: red"


def test_tensorboard_shows_them_after_each_epoch(scene: MadeScene) -> None:
    run = train(scene.write(scene.train_config()))
    (events,) = (scene.folder / "tensorboard").rglob("events*")
    found = EventAccumulator(str(events.parent), size_guidance={IMAGES: 0}).Reload()
    assert run.is_dir()
    tags = [tag for tag in found.Tags()["images"] if tag.startswith("val/patch_")]
    assert len(tags) >= 1
    shown = found.Images(tags[0])
    assert len(shown) == 2, "one for each epoch"
    picture = np.asarray(Image.open(io.BytesIO(shown[-1].encoded_image_string)))
    assert picture.shape == (16, 5 * 16 + 4 * 4, 3)
