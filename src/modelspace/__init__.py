"""A PyTorch architecture as a space of functions, H = { f_p : p ∈ ℝⁿ }.

Measure the space, train thousands of its points as one program, compare them honestly, and see the result.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelspace import (
        data,
        distribute,
        ensemble,
        examples,
        export,
        geometry,
        losses,
        metrics,
        optimizers,
        report,
    )
    from modelspace.compare import (
        Comparison,
        LossComparison,
        Verdict,
        compare,
        compare_losses,
        pairs_needed,
        versus,
    )
    from modelspace.cost import Difference, Inspection, diff, inspect
    from modelspace.doctor import Diagnosis, Finding, doctor
    from modelspace.engine import Confusion, Plan, confusion, evaluate, predict
    from modelspace.ensemble import Ensemble, ModelspaceClassifier, ModelspaceRegressor
    from modelspace.errors import ModelspaceError
    from modelspace.explore import Exploration, explore
    from modelspace.family import Family
    from modelspace.fit import EarlyStopping, Record, Trainer, fit
    from modelspace.geometry import (
        Barriers,
        Connection,
        Curvature,
        Landscape,
        Slice,
        Trajectory,
        barriers,
        connect,
        curvature,
        landscape,
        slices,
        trajectory,
    )
    from modelspace.optimizers import SGD, Adam, AdamW, RMSprop
    from modelspace.population import Population, load, logspace, population_of, save
    from modelspace.runs import Run, open_run
    from modelspace.search import Search, search
    from modelspace.space import ModelSpace
    from modelspace.verify import Verification, verify

__version__ = "0.1.0"
__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Barriers",
    "Comparison",
    "Confusion",
    "Connection",
    "Curvature",
    "Diagnosis",
    "Difference",
    "EarlyStopping",
    "Ensemble",
    "Exploration",
    "Family",
    "Finding",
    "Inspection",
    "Landscape",
    "LossComparison",
    "ModelSpace",
    "ModelspaceClassifier",
    "ModelspaceError",
    "ModelspaceRegressor",
    "Plan",
    "Population",
    "RMSprop",
    "Record",
    "Run",
    "Search",
    "Slice",
    "Trainer",
    "Trajectory",
    "Verdict",
    "Verification",
    "barriers",
    "compare",
    "compare_losses",
    "confusion",
    "connect",
    "curvature",
    "data",
    "diff",
    "distribute",
    "doctor",
    "ensemble",
    "evaluate",
    "examples",
    "explore",
    "export",
    "fit",
    "geometry",
    "inspect",
    "landscape",
    "load",
    "logspace",
    "losses",
    "metrics",
    "open_run",
    "optimizers",
    "pairs_needed",
    "population_of",
    "predict",
    "report",
    "save",
    "search",
    "slices",
    "trajectory",
    "verify",
    "versus",
]

# Where each name is made. Nothing is imported before it is asked for: the command line answers --help at once.
_HOMES = {
    "modelspace.compare": (
        "Comparison",
        "LossComparison",
        "Verdict",
        "compare",
        "compare_losses",
        "pairs_needed",
        "versus",
    ),
    "modelspace.doctor": ("Diagnosis", "Finding", "doctor"),
    "modelspace.engine": ("Confusion", "Plan", "confusion", "evaluate", "predict"),
    "modelspace.ensemble": ("Ensemble", "ModelspaceClassifier", "ModelspaceRegressor"),
    "modelspace.errors": ("ModelspaceError",),
    "modelspace.explore": ("Exploration", "explore"),
    "modelspace.fit": ("EarlyStopping", "Record", "Trainer", "fit"),
    "modelspace.geometry": (
        "Barriers",
        "Connection",
        "Curvature",
        "Landscape",
        "Slice",
        "Trajectory",
        "barriers",
        "connect",
        "curvature",
        "landscape",
        "slices",
        "trajectory",
    ),
    "modelspace.runs": ("Run", "open_run"),
    "modelspace.optimizers": ("SGD", "Adam", "AdamW", "RMSprop"),
    "modelspace.population": ("Population", "load", "logspace", "population_of", "save"),
    "modelspace.search": ("Search", "search"),
    "modelspace.space": ("ModelSpace",),
    "modelspace.family": ("Family",),
    "modelspace.cost": ("Difference", "Inspection", "diff", "inspect"),
    "modelspace.verify": ("Verification", "verify"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import what was asked for, and keep it."""
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    if name in __all__:
        return import_module(f"modelspace.{name}")
    raise AttributeError(f"module 'modelspace' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


class _Face(ModuleType):
    """The package itself, where ``fit`` is the function although the package that holds it has that name too."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in _HOME):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
