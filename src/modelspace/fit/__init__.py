"""Training every row of a population.

The road: ``fit`` (the loop over shards), ``train`` (one shard), ``step`` (one update), then ``modelspace.engine`` for
the gradient and ``modelspace.optimizers`` for the update.
"""

from modelspace.fit.fit import fit, local
from modelspace.fit.groups import LAYER_DECAY
from modelspace.fit.options import PLANS, Options
from modelspace.fit.plan import build, measured, program
from modelspace.fit.precision import products_in
from modelspace.fit.recipe import DIVIDING, LABEL_NOISE, EarlyStopping, Epoch, Recipe
from modelspace.fit.records import Record
from modelspace.fit.runner import Job, Rows, Runner, halved, pieces
from modelspace.fit.task import Task, prepare
from modelspace.fit.train import Advance, Program, start, train, updates
from modelspace.fit.trainer import Trainer
from modelspace.precision import Precision

__all__ = [
    "DIVIDING",
    "LABEL_NOISE",
    "LAYER_DECAY",
    "PLANS",
    "Advance",
    "EarlyStopping",
    "Epoch",
    "Job",
    "Options",
    "Precision",
    "Program",
    "Recipe",
    "Record",
    "Rows",
    "Runner",
    "Task",
    "Trainer",
    "build",
    "fit",
    "halved",
    "local",
    "measured",
    "pieces",
    "prepare",
    "products_in",
    "program",
    "start",
    "train",
    "updates",
]
