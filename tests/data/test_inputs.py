"""What a network sees."""

import pytest

from resdepth.data.normalization import (
    InputChannels,
    Inputs,
    MultiviewConfig,
    inputs_for_training,
    inputs_of_network,
)

VARIANTS: dict[InputChannels, Inputs] = {
    "geom": Inputs(uses_dsm=True, n_views=0),
    "geom-mono": Inputs(uses_dsm=True, n_views=1),
    "geom-stereo": Inputs(uses_dsm=True, n_views=2),
    "stereo": Inputs(uses_dsm=False, n_views=2),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_each_variant_has_its_channels(name: InputChannels) -> None:
    expected = VARIANTS[name]
    assert inputs_for_training(name, "5-view") == expected
    assert inputs_of_network(name, expected.n_channels) == expected


@pytest.mark.parametrize(("multiview", "n_views"), [("3-view", 3), ("4-view", 4), ("5-view", 5)])
def test_geom_multiview_sees_three_to_five_images(multiview: MultiviewConfig, n_views: int) -> None:
    inputs = inputs_for_training("geom-multiview", multiview)
    assert inputs == Inputs(uses_dsm=True, n_views=n_views)
    assert inputs.n_channels == 1 + n_views
    assert inputs_of_network("geom-multiview", 1 + n_views) == inputs


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("geom", 2),
        ("geom-mono", 1),
        ("geom-stereo", 2),
        ("stereo", 3),
        ("geom-multiview", 3),
        ("geom-multiview", 7),
    ],
)
def test_a_number_of_channels_that_does_not_fit_is_refused(name: InputChannels, channels: int) -> None:
    with pytest.raises(ValueError, match=f"'{name}' but n_input_channels is {channels}"):
        inputs_of_network(name, channels)


def test_an_unknown_variant_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"'geom-multivew'.* geom-multiview"):
        inputs_of_network("geom-multivew", 4)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "view_set", "folder"),
    [
        ("geom", (), ""),
        ("geom-mono", (3,), "Image_3"),
        ("geom-stereo", (0, 12), "Stereopair_0_12"),
        ("stereo", (1, 0), "Stereopair_1_0"),
        ("geom-multiview", (0, 1, 2), "Imagepair_0_1_2"),
        ("geom-multiview", (4, 3, 2, 1, 0), "Imagepair_4_3_2_1_0"),
    ],
)
def test_result_folders_have_the_published_names(
    name: InputChannels, view_set: tuple[int, ...], folder: str
) -> None:
    inputs = inputs_of_network(name, len(view_set) + (name != "stereo"))
    assert inputs.folder_name(view_set) == folder
