"""Training every row of a population."""

from modelspace.fit.early_stopping import EarlyStopping
from modelspace.fit.loop import fit
from modelspace.fit.opening import open_run
from modelspace.fit.run import Run
from modelspace.fit.runner import Job, Runner

__all__ = ["EarlyStopping", "Job", "Run", "Runner", "fit", "open_run"]
