"""What lies beside a model's weights."""

from resdepth.config.schema import NetworkConfig, NetworkSettings
from resdepth.models.schema import UNetSettings


def test_stored_settings_differ_from_those_of_a_training_in_two_published_defaults() -> None:
    trained, stored = NetworkSettings().model_dump(), UNetSettings().model_dump()
    assert {name for name in trained if trained[name] != stored[name]} == {"depth", "bias_conv_layer"}
    assert trained.items() <= NetworkConfig().model_dump().items()
