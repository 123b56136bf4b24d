"""A PyTorch architecture as a space of functions, H = { f_p : p ∈ ℝⁿ }.

Measure the space, train thousands of its points as one program, compare them honestly, and see the result.
"""

from modelspace import data, distribute, export, losses, metrics, optimizers, report
from modelspace.compare import Comparison, LossComparison, compare, compare_losses
from modelspace.doctor import Diagnosis, Finding, doctor
from modelspace.engine import Plan, evaluate
from modelspace.errors import ModelspaceError
from modelspace.explore import Exploration, explore
from modelspace.fit import EarlyStopping, fit
from modelspace.optimizers import SGD, Adam, AdamW, RMSprop
from modelspace.population import Population, load, logspace, population_of, save
from modelspace.runs import Run, open_run
from modelspace.space import ModelSpace
from modelspace.space.difference import Difference, diff
from modelspace.space.family import Family
from modelspace.space.inspection import Inspection, inspect
from modelspace.verify import Verification, verify

__version__ = "0.1.0"
__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Comparison",
    "Diagnosis",
    "Difference",
    "EarlyStopping",
    "Exploration",
    "Family",
    "Finding",
    "Inspection",
    "LossComparison",
    "ModelSpace",
    "ModelspaceError",
    "Plan",
    "Population",
    "RMSprop",
    "Run",
    "Verification",
    "compare",
    "compare_losses",
    "data",
    "diff",
    "distribute",
    "doctor",
    "evaluate",
    "explore",
    "export",
    "fit",
    "inspect",
    "load",
    "logspace",
    "losses",
    "metrics",
    "open_run",
    "optimizers",
    "population_of",
    "report",
    "save",
    "verify",
]
