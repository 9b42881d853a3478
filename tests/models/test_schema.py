"""What lies beside a model's weights."""

import inspect

from resdepth.models.schema import NetworkSettings
from resdepth.models.unet import UNet


def test_settings_have_the_names_and_defaults_of_the_network() -> None:
    parameters = inspect.signature(UNet).parameters
    assert NetworkSettings().model_dump() == {name: item.default for name, item in parameters.items()}
