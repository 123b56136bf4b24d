"""Training every row of a population."""

from modelspace.fit.early_stopping import EarlyStopping
from modelspace.fit.loop import fit
from modelspace.fit.runner import Job, Runner

__all__ = ["EarlyStopping", "Job", "Runner", "fit"]
