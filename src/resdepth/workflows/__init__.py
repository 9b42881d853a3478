"""The whole jobs, composed of the parts; nothing is computed here.

Simulation stands aside (workflows/simulating.py): it needs packages that training and refinement do not.
"""

from resdepth.workflows.judging import evaluate
from resdepth.workflows.refining import refine
from resdepth.workflows.testing import PairResult, test
from resdepth.workflows.training import resume, train

__all__ = ["PairResult", "evaluate", "refine", "resume", "test", "train"]
