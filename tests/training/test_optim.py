"""Optimizers and schedulers by name."""

import copy
import re
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, ReduceLROnPlateau, StepLR

from resdepth.config.schema import OptimizerConfig, SchedulerConfig
from resdepth.training.optim import (
    new_optimizer,
    new_scheduler,
    restore_optimizer,
    restore_scheduler,
    setting_problems,
)


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
        (config("CosineAnnealingLR", T_max=7, eta_min=1e-4), CosineAnnealingLR),
    ],
)
def test_each_scheduler_takes_pytorchs_arguments(given: SchedulerConfig, kind: type) -> None:
    assert setting_problems(given) == []
    made = new_scheduler(given, optimizer())
    assert type(made) is kind
    for name, value in given.settings.items():
        assert getattr(made, name) == value


def test_the_learning_rate_falls_as_stated() -> None:
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
    ("given", "setting", "stated"),
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
        (config("CosineAnnealingLR", T_max=0), "T_max", "found 0; must be positive"),
    ],
)
def test_a_wrong_setting_is_stated_by_name(given: SchedulerConfig, setting: str, stated: str) -> None:
    (problem,) = setting_problems(given)
    assert problem[0] == setting
    assert re.search(stated, problem[1]), problem


def test_all_wrong_settings_are_stated_at_once() -> None:
    problems = setting_problems(config("StepLR", step_size=0, gama=0.5))
    assert [name for name, _ in problems] == ["step_size", "gama"]


def test_a_cosine_falls_over_all_epochs_unless_it_is_given_others() -> None:
    for given, length in ((config("CosineAnnealingLR"), 40), (config("CosineAnnealingLR", T_max=30), 30)):
        assert setting_problems(given) == []
        made = new_scheduler(given, optimizer(), 40)
        assert isinstance(made, CosineAnnealingLR)
        assert made.T_max == length


def test_a_disabled_scheduler_may_say_anything() -> None:
    given = SchedulerConfig(enabled=False, name="ExponentialLR", settings={"x": 1})
    assert setting_problems(given) == []


def fresh(kind: str, **settings: float) -> Optimizer:
    parameters = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))]
    given = OptimizerConfig.model_validate({"name": kind, **settings})
    return new_optimizer(given, parameters, torch.device("cpu"))


def stepped(kind: str) -> tuple[Optimizer, dict[str, Any]]:
    """An optimizer that has done a step, and its state."""
    made = fresh(kind)
    parameters = made.param_groups[0]["params"]
    sum(parameter.sum() for parameter in parameters).backward()
    made.step()
    return made, copy.deepcopy(made.state_dict())


@pytest.mark.parametrize("kind", ["Adam", "AdamW", "SGD"])
def test_the_state_of_an_optimizer_is_put_back(kind: str) -> None:
    _, state = stepped(kind)
    made = fresh(kind, learning_rate=7.0)
    restore_optimizer(made, state)
    assert str(made.state_dict()) == str(state)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lr", "x"), ("lr", -1.0), ("lr", 10**400), ("lr", float("nan")), ("betas", (0.9,)),
        ("betas", (0.9, 2.0)), ("eps", None), ("amsgrad", True), ("maximize", "x"),
        ("params", [0]), ("params", [0, "x"]),
    ],
)  # fmt: skip
def test_settings_that_no_optimizer_has_are_refused(key: str, value: Any) -> None:
    made, state = stepped("Adam")
    state["param_groups"][0][key] = value
    with pytest.raises((ValueError, TypeError)):
        restore_optimizer(made, state)


@pytest.mark.parametrize(
    ("key", "value"),
    [("exp_avg", torch.zeros(4)), ("exp_avg", None), ("exp_avg", torch.zeros(2).to_sparse()), ("step", -1),
     ("step", torch.zeros(3)), ("step", "x"), ("more", 1)],
)  # fmt: skip
def test_a_memory_that_does_not_fit_its_parameter_is_refused(key: str, value: Any) -> None:
    made, state = stepped("Adam")
    state["state"][0][key] = value
    with pytest.raises((ValueError, TypeError, RuntimeError)):
        restore_optimizer(made, state)


@pytest.mark.parametrize("name", ["StepLR", "ExponentialLR", "ReduceLROnPlateau", "CosineAnnealingLR"])
@pytest.mark.parametrize(
    ("key", "value"),
    [("step", 1), ("base_lrs", 1), ("base_lrs", []), ("step_size", 0), ("gamma", "x"), ("gamma", -1.0),
     ("patience", None), ("best", "x"), ("mode", "other"), ("last_epoch", float("nan"))],
)  # fmt: skip
def test_a_state_that_no_scheduler_has_is_refused_or_without_effect(name: str, key: str, value: Any) -> None:
    settings: dict[str, dict[str, Any]] = {"StepLR": {"step_size": 3}, "ExponentialLR": {"gamma": 0.5}}
    made = new_scheduler(config(name, **settings.get(name, {})), optimizer())
    assert made is not None
    state = copy.deepcopy(made.state_dict())
    known = key in state
    if known:
        with pytest.raises(ValueError, match=key):
            restore_scheduler(made, {**state, key: value})
    else:
        restore_scheduler(made, {**state, key: value})
        assert made.state_dict() == state
