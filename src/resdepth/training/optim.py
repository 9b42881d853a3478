"""Optimizers and learning-rate schedulers by name, with PyTorch's own arguments."""

import inspect
import math
import sys
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LRScheduler,
    ReduceLROnPlateau,
    StepLR,
)

from resdepth.config.schema import OptimizerConfig, SchedulerConfig
from resdepth.errors import Problem
from resdepth.runtime.jsonfiles import expected

OPTIMIZERS: dict[str, type[Optimizer]] = {"Adam": Adam, "AdamW": AdamW, "SGD": SGD}
SCHEDULERS: dict[str, type[LRScheduler]] = {
    "ReduceLROnPlateau": ReduceLROnPlateau,
    "StepLR": StepLR,
    "ExponentialLR": ExponentialLR,
    "CosineAnnealingLR": CosineAnnealingLR,
}

_FORMS = ("fused", "foreach")  # how a step is computed, not what
_MOMENTS_OF_ADAM = {"step", "exp_avg", "exp_avg_sq"}
_MOMENTS = {Adam: _MOMENTS_OF_ADAM, AdamW: _MOMENTS_OF_ADAM, SGD: {"momentum_buffer"}}
_NOT_SETTINGS = {"self", "optimizer", "last_epoch"}
_POSITIVE = {"step_size", "gamma", "factor", "T_max"}
_OPTIONAL = {"StepLR": "step_size", "CosineAnnealingLR": "T_max"}
"""What PyTorch wants to be given, and we do not."""


def new_optimizer(
    config: OptimizerConfig, parameters: Iterable[nn.Parameter], device: torch.device
) -> Optimizer:
    """The optimizer of a configuration, in the form that is fastest on the device."""
    kind: Any = OPTIMIZERS[config.name]
    # One pass over the weights; elsewhere than on the CPU PyTorch chooses a fast form by itself.
    fused = True if device.type == "cpu" else None
    optimizer: Optimizer = kind(
        parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused
    )
    return optimizer


def state_problems(
    optimizer: OptimizerConfig, scheduler: SchedulerConfig, checkpoint: Mapping[str, Any]
) -> list[Problem]:
    """What of a checkpoint does not go with a configuration, or else which of its settings are ignored."""
    misfits = [Problem(*one) for one in _state_misfits(optimizer, scheduler, checkpoint)]
    ignored = [] if misfits else _ignored_options(optimizer, scheduler, checkpoint)
    return [*misfits, *(Problem(*one, "warning") for one in ignored)]


def _state_misfits(
    optimizer: OptimizerConfig, scheduler: SchedulerConfig, checkpoint: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """What of a checkpoint does not go with a configuration, as (key, message)."""
    try:
        stored = dict(checkpoint["optimizer_state_dict"]["param_groups"][0])
    except (KeyError, IndexError, TypeError, ValueError):
        return [("optimizer", "the checkpoint holds no state of an optimizer; no training resumes from it")]
    misfits = []
    if _optimizer_of(stored) != optimizer.name:
        text = f"found {optimizer.name!r}; the checkpoint was written with {_optimizer_of(stored)}: set that"
        misfits.append(("optimizer.name", text))
    state = checkpoint.get("scheduler_state_dict")
    if scheduler.enabled and isinstance(state, Mapping) and _scheduler_of(state) != scheduler.name:
        text = f"found {scheduler.name!r}; the checkpoint was written with {_scheduler_of(state)}: set that"
        misfits.append(("scheduler.name", text))
    return misfits


def _ignored_options(
    optimizer: OptimizerConfig, scheduler: SchedulerConfig, checkpoint: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Which settings the state of a fitting checkpoint puts others in place of, as (key, message).

    PyTorch stores settings with the state, and takes both back together.
    """
    group = checkpoint["optimizer_state_dict"]["param_groups"][0]
    requests = {
        "optimizer.learning_rate": (optimizer.learning_rate, group.get("initial_lr", group.get("lr"))),
        "optimizer.weight_decay": (optimizer.weight_decay, group.get("weight_decay")),
    }
    state = checkpoint.get("scheduler_state_dict")
    if scheduler.enabled and isinstance(state, Mapping):
        requests |= {
            f"scheduler.settings.{name}": (request, state[name])
            for name, request in scheduler.settings.items()
            if name in state
        }
    return [
        (key, f"found {request}; training continues with {stored}, which the checkpoint holds")
        for key, (request, stored) in requests.items()
        if isinstance(stored, float | int) and request != stored
    ]


def _optimizer_of(group: Mapping[str, Any]) -> str:
    """The optimizer whose settings these are, by what only it has."""
    if "betas" in group:
        return "AdamW" if group.get("decoupled_weight_decay") else "Adam"
    return "SGD" if "momentum" in group else "another optimizer"


def _scheduler_of(state: Mapping[str, Any]) -> str:
    """The scheduler that a state is of, by what only it has."""
    marks = {
        "step_size": "StepLR", "patience": "ReduceLROnPlateau", "gamma": "ExponentialLR",
        "T_max": "CosineAnnealingLR",
    }  # fmt: skip
    return next((name for mark, name in marks.items() if mark in state), "another scheduler")


def restore_optimizer(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Put a checkpoint's state into an optimizer, which keeps the form that is fastest on its device.

    Raises:
        ValueError: if the state is that of another network, or none.
    """
    _demand_settings(optimizer, state["param_groups"])
    _demand_moments(optimizer, state["state"])
    forms = [{name: group.get(name) for name in _FORMS} for group in optimizer.param_groups]
    known = set(optimizer.param_groups[0]) - set(_FORMS)
    stored = set(state["param_groups"][0])
    # What later versions of PyTorch added keeps its default.
    defaults = {name: optimizer.param_groups[0][name] for name in known - stored - {"params"}}
    optimizer.load_state_dict(dict(state))
    for group, form in zip(optimizer.param_groups, forms, strict=True):
        group.update(form)
        for name, value in defaults.items():
            group.setdefault(name, value)


def _demand_settings(optimizer: Optimizer, groups: Sequence[Mapping[str, Any]]) -> None:
    """Settings are numbers as PyTorch takes them; those that no configuration chooses are ours."""
    for own, stored in zip(optimizer.state_dict()["param_groups"], groups, strict=True):
        if stored["params"] != own["params"]:
            raise ValueError("it remembers other parameters")
        known = {name: stored[name] for name in own.keys() & stored.keys() - {"params", *_FORMS}}
        for name, value in known.items():
            is_choice = own[name] is None or isinstance(own[name], bool | str)
            if not _is_alike(own[name], value) or (is_choice and value != own[name]):
                raise ValueError(f"{name} is {value!r:.60}")
        taken = known.keys() & inspect.signature(type(optimizer)).parameters.keys()
        type(optimizer)([nn.Parameter()], **{name: known[name] for name in taken})


def _demand_moments(optimizer: Optimizer, state: Mapping[int, Mapping[str, Any]]) -> None:
    """What an optimizer remembers of each parameter has the parameter's shape."""
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    names = _MOMENTS[type(optimizer)]
    for number, found in state.items():
        if not 0 <= number < len(parameters) or (found and set(found) != names):
            raise ValueError(f"the state of parameter {number} is {', '.join(found)}; expected {names}")
        for name, value in found.items():
            if name == "step":
                sound = 0 <= float(value) < float("inf")
            elif value is None:
                sound = name == "momentum_buffer"
            else:
                shape = parameters[number].shape
                sound = isinstance(value, Tensor) and value.layout == torch.strided and value.shape == shape
            if not sound:
                raise ValueError(f"{name} of parameter {number} is {value!r:.60}")


def restore_scheduler(scheduler: LRScheduler, state: Mapping[str, Any]) -> None:
    """Put a checkpoint's state into a scheduler.

    Raises:
        ValueError: if it is that of another scheduler, or none.
    """
    own = scheduler.state_dict()
    known = {name: state[name] for name in own.keys() & state.keys()}
    for name, value in known.items():
        if not _is_alike(own[name], value):
            raise ValueError(f"{name} is {value!r:.60}")
    name = next(name for name, kind in SCHEDULERS.items() if type(scheduler) is kind)
    chosen = known.keys() & inspect.signature(type(scheduler)).parameters.keys() - _NOT_SETTINGS
    settings = {key: known[key] for key in chosen}
    if problems := setting_problems(SchedulerConfig(name=name, settings=settings)):  # type: ignore[arg-type]
        raise ValueError("; ".join(f"{key}: {text}" for key, text in problems))
    scheduler.load_state_dict(known)


def _is_alike(own: Any, found: Any) -> bool:
    """Whether a stored value is of the kind of ours."""
    if isinstance(own, list | tuple):
        return isinstance(found, list | tuple) and len(found) == len(own) and all(map(_is_number, found))
    if isinstance(own, bool) or own is None or isinstance(own, str):
        return isinstance(found, type(own)) or (own is None and isinstance(found, list))
    return _is_number(found)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and bool(value == math.inf or abs(value) <= sys.float_info.max)


def new_scheduler(config: SchedulerConfig, optimizer: Optimizer, n_epochs: int = 1) -> LRScheduler | None:
    """The scheduler of a configuration; None if the learning rate stays as it is.

    The published default (StepLR without step_size) cannot run; ours keeps the learning rate then. A cosine
    falls over `n_epochs` unless the configuration says otherwise.
    """
    if not config.enabled or (config.name == "StepLR" and "step_size" not in config.settings):
        return None
    kind: Any = SCHEDULERS[config.name]
    defaults = {"T_max": n_epochs} if kind is CosineAnnealingLR else {}
    scheduler: LRScheduler = kind(optimizer, **{**defaults, **config.settings})
    return scheduler


def setting_problems(config: SchedulerConfig) -> list[tuple[str, str]]:
    """What is wrong with a scheduler's settings, as (setting, message)."""
    if not config.enabled:
        return []
    constructor = SCHEDULERS[config.name].__init__
    kinds = typing.get_type_hints(constructor)
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(constructor).parameters.items()
        if name not in _NOT_SETTINGS
    }
    problems = []
    for name, value in config.settings.items():
        if name not in parameters:
            problems.append((name, f"unknown; {config.name} takes {', '.join(parameters)}"))
            continue
        try:
            TypeAdapter(kinds[name]).validate_python(value, strict=True)
        except ValidationError as error:
            problems.append((name, f"found {value!r}; {expected(error.errors()[0])}"))
            continue
        if name in _POSITIVE and value <= 0:
            problems.append((name, f"found {value!r}; must be positive"))
    for name, parameter in parameters.items():
        is_optional = parameter.default is not inspect.Parameter.empty or _OPTIONAL.get(config.name) == name
        if not is_optional and name not in config.settings:
            problems.append((name, f"missing; {config.name} needs it"))
    if not problems:
        try:
            new_scheduler(config, SGD([nn.Parameter()], lr=1.0))
        except (TypeError, ValueError) as error:
            problems.append(("", str(error)))
    return problems
