"""Learned refinement of digital surface models from satellite and aerial stereo.

The names below are the public interface; everything else may change. They are imported when first used, so
that `import resdepth` is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

from resdepth.release import __version__ as __version__

if TYPE_CHECKING:
    from resdepth.checking import check
    from resdepth.checkpoint import Model, save_model
    from resdepth.errors import InputProblems, ResDepthError
    from resdepth.evaluation import Evaluation
    from resdepth.published import load_model
    from resdepth.scene import Scene
    from resdepth.workflows.judging import evaluate
    from resdepth.workflows.refining import refine
    from resdepth.workflows.testing import test
    from resdepth.workflows.training import train

_HOMES = {
    "Evaluation": "evaluation",
    "InputProblems": "errors",
    "Model": "checkpoint",
    "ResDepthError": "errors",
    "Scene": "scene",
    "check": "checking",
    "evaluate": "workflows.judging",
    "load_model": "published",
    "refine": "workflows.refining",
    "save_model": "checkpoint",
    "test": "workflows.testing",
    "train": "workflows.training",
}

__all__ = [
    "Evaluation",
    "InputProblems",
    "Model",
    "ResDepthError",
    "Scene",
    "check",
    "evaluate",
    "load_model",
    "refine",
    "save_model",
    "test",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'resdepth' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"resdepth.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
