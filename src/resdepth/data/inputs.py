"""What a network sees, derived once from `input_channels`; nobody else looks at that string."""

from dataclasses import dataclass
from typing import Literal, get_args

InputChannels = Literal["geom", "geom-mono", "geom-stereo", "geom-multiview", "stereo"]
ModelInputs = Literal["geom", "geom-mono", "geom-stereo", "geom-multiview", "stereo", "geom-matched"]
"""What stored models see: also heights matched in raw images, and how the images agree about them."""
MultiviewConfig = Literal["3-view", "4-view", "5-view"]

_VIEWS: dict[str, int] = {"geom": 0, "geom-mono": 1, "geom-stereo": 2, "stereo": 2}
_MULTIVIEW_FOLDER = "Imagepair"
_VIEW_SET_FOLDERS = {1: "Image", 2: "Stereopair"}
_MATCHED = "geom-matched"
N_MATCHED_LAYERS = 5
"""Rasters that a pair of images gives (stereo/remeasure.py)."""


@dataclass(frozen=True)
class Inputs:
    """The channels of a network's input: the DSM first, if it is used, then the views.

    Attributes:
        uses_dsm: whether the initial DSM is a channel.
        n_views: the number of ortho-images; or of the rasters that a pair of images gives.
        matched: whether these are heights and agreements, not grey values (`normalize_matched`).
    """

    uses_dsm: bool
    n_views: int
    matched: bool = False

    @property
    def n_channels(self) -> int:
        """The number of channels; where heights are matched is one more."""
        return int(self.uses_dsm) + self.n_views + int(self.matched)

    def folder_name(self, view_set: tuple[int, ...]) -> str:
        """The published name of the result folder of one view set, "Stereopair_0_1"; "" without views."""
        if not view_set:
            return ""
        stem = _VIEW_SET_FOLDERS.get(self.n_views, _MULTIVIEW_FOLDER)
        return "_".join([stem, *(str(index) for index in view_set)])


def inputs_for_training(input_channels: InputChannels, multiview: MultiviewConfig) -> Inputs:
    """The inputs that a training configuration asks for."""
    n_views = _VIEWS.get(input_channels, int(multiview[0]))
    return Inputs(uses_dsm=input_channels != "stereo", n_views=n_views)


def inputs_of_network(input_channels: InputChannels, n_input_channels: int) -> Inputs:
    """The inputs of a trained network, which states its number of channels.

    Raises:
        ValueError: for an unknown name, or if the two contradict each other.
    """
    if input_channels == _MATCHED:
        inputs = Inputs(uses_dsm=True, n_views=N_MATCHED_LAYERS, matched=True)
        if n_input_channels != inputs.n_channels:
            raise ValueError(f"input_channels is {_MATCHED!r} but n_input_channels is {n_input_channels}")
        return inputs
    known = get_args(InputChannels)
    if input_channels not in known:
        raise ValueError(f"input_channels is {input_channels!r}; known: {', '.join(known)}")
    uses_dsm = input_channels != "stereo"
    inputs = Inputs(uses_dsm, n_input_channels - int(uses_dsm))
    expected = _VIEWS.get(input_channels)
    if inputs.n_views != expected and not (expected is None and inputs.n_views in (3, 4, 5)):
        raise ValueError(f"input_channels is {input_channels!r} but n_input_channels is {n_input_channels}")
    return inputs
