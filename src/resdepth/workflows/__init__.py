"""The whole jobs, composed of the parts; nothing is computed here."""

from resdepth.workflows.surfaces import evaluate, refine
from resdepth.workflows.testing import PairResult, test
from resdepth.workflows.training import resume, train

__all__ = ["PairResult", "evaluate", "refine", "resume", "test", "train"]
