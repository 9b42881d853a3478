"""Optimizers and schedulers by name."""

import re
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau, StepLR

from resdepth.config import OptimizerConfig, SchedulerConfig
from resdepth.optimization import new_optimizer, new_scheduler, setting_problems


def optimizer() -> Optimizer:
    return SGD([nn.Parameter(torch.zeros(1))], lr=1.0)


def config(name: str = "StepLR", **settings: Any) -> SchedulerConfig:
    return SchedulerConfig.model_validate({"name": name, "settings": settings})


def test_adam_comes_without_extras() -> None:
    made = new_optimizer(OptimizerConfig(), [nn.Parameter(torch.zeros(1))], torch.device("cpu"))
    assert type(made) is Adam
    group = made.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (2e-4, 1e-5)
    assert (group["betas"], group["eps"], group["amsgrad"]) == ((0.9, 0.999), 1e-8, False)


def test_sgd_comes_without_momentum() -> None:
    given = OptimizerConfig(name="SGD", learning_rate=0.1, weight_decay=0.0)
    made = new_optimizer(given, [nn.Parameter(torch.zeros(1))], torch.device("cpu"))
    assert type(made) is SGD
    group = made.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["momentum"], group["nesterov"]) == (0.1, 0, 0, False)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (config("StepLR", step_size=3, gamma=0.5), StepLR),
        (config("ExponentialLR", gamma=0.9), ExponentialLR),
        (config("ReduceLROnPlateau", patience=2, factor=0.5, mode="min"), ReduceLROnPlateau),
        (config("ReduceLROnPlateau"), ReduceLROnPlateau),
    ],
)
def test_each_scheduler_takes_pytorchs_arguments(given: SchedulerConfig, kind: type) -> None:
    assert setting_problems(given) == []
    made = new_scheduler(given, optimizer())
    assert type(made) is kind
    for name, value in given.settings.items():
        assert getattr(made, name) == value


def test_the_learning_rate_falls_as_told() -> None:
    stepped = optimizer()
    scheduler = new_scheduler(config("StepLR", step_size=2, gamma=0.1), stepped)
    assert scheduler is not None
    rates = []
    for _ in range(5):
        rates.append(stepped.param_groups[0]["lr"])
        stepped.step()
        scheduler.step()
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01])


@pytest.mark.parametrize(
    "given",
    [
        SchedulerConfig(),
        config("StepLR", gamma=0.5),
        SchedulerConfig(enabled=False, settings={"step_size": 1}),
    ],
)
def test_without_a_step_size_or_if_disabled_the_learning_rate_stays(given: SchedulerConfig) -> None:
    """The published default, StepLR without step_size, cannot run."""
    assert new_scheduler(given, optimizer()) is None
    assert setting_problems(given) == []


@pytest.mark.parametrize(
    ("given", "setting", "told"),
    [
        (config("StepLR", stepsize=3), "stepsize", "unknown; StepLR takes step_size, gamma"),
        (config("StepLR", step_size="3"), "step_size", "found '3'.*integer"),
        (config("StepLR", step_size=2.5), "step_size", "found 2.5.*integer"),
        (config("StepLR", step_size=0), "step_size", "found 0; must be positive"),
        (config("StepLR", step_size=3, gamma=-1), "gamma", "found -1; must be positive"),
        (config("StepLR", step_size=True), "step_size", "found True"),
        (config("StepLR", optimizer="Adam", step_size=1), "optimizer", "unknown"),
        (config("StepLR", last_epoch=4, step_size=1), "last_epoch", "unknown"),
        (config("ExponentialLR"), "gamma", "missing; ExponentialLR needs it"),
        (config("ExponentialLR", gamma=None), "gamma", "found None"),
        (config("ReduceLROnPlateau", mode="lowest"), "mode", "found 'lowest'.*'min' or 'max'"),
        (config("ReduceLROnPlateau", factor=1.5), "", "(?i)factor should be < 1.0"),
        (config("ReduceLROnPlateau", patience="long"), "patience", "found 'long'"),
    ],
)
def test_a_wrong_setting_is_told_by_name(given: SchedulerConfig, setting: str, told: str) -> None:
    (problem,) = setting_problems(given)
    assert problem[0] == setting
    assert re.search(told, problem[1]), problem


def test_all_wrong_settings_are_told_at_once() -> None:
    problems = setting_problems(config("StepLR", step_size=0, gama=0.5))
    assert [name for name, _ in problems] == ["step_size", "gama"]


def test_a_disabled_scheduler_may_say_anything() -> None:
    given = SchedulerConfig(enabled=False, name="ExponentialLR", settings={"x": 1})
    assert setting_problems(given) == []
