"""Learned refinement of digital surface models from satellite and aerial stereo.

The names below are the public interface; everything else may change. They are imported when first used, so
that `import resdepth` is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

from resdepth.version import __version__ as __version__

if TYPE_CHECKING:
    from resdepth.data.scene import Scene
    from resdepth.errors import InputProblems, ResDepthError
    from resdepth.evaluation.result import Evaluation
    from resdepth.geo.gdal import tune_process
    from resdepth.models.model import Model, save_model
    from resdepth.models.published import load_model
    from resdepth.refinement.result import Refinement
    from resdepth.workflows.check import check
    from resdepth.workflows.doctor import doctor
    from resdepth.workflows.evaluate import evaluate
    from resdepth.workflows.finetune import finetune
    from resdepth.workflows.prepare import prepare
    from resdepth.workflows.refine import refine
    from resdepth.workflows.test import test
    from resdepth.workflows.train import train

_HOMES = {
    "Evaluation": "evaluation.result",
    "InputProblems": "errors",
    "Model": "models.model",
    "Refinement": "refinement.result",
    "ResDepthError": "errors",
    "Scene": "data.scene",
    "check": "workflows.check",
    "doctor": "workflows.doctor",
    "evaluate": "workflows.evaluate",
    "finetune": "workflows.finetune",
    "load_model": "models.published",
    "prepare": "workflows.prepare",
    "refine": "workflows.refine",
    "save_model": "models.model",
    "test": "workflows.test",
    "train": "workflows.train",
    "tune_process": "geo.gdal",
}

__all__ = [
    "Evaluation",
    "InputProblems",
    "Model",
    "Refinement",
    "ResDepthError",
    "Scene",
    "check",
    "doctor",
    "evaluate",
    "finetune",
    "load_model",
    "prepare",
    "refine",
    "save_model",
    "test",
    "train",
    "tune_process",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'resdepth' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"resdepth.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
