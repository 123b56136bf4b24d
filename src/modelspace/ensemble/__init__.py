"""Ensembles: members as one module, its uncertainty and calibration, which members, how many; scikit-learn."""

from typing import TYPE_CHECKING, Any

from modelspace.ensemble._combine import COMBINATIONS, Uncertainty
from modelspace.ensemble._frame import predictions
from modelspace.ensemble._members import Selection, curve, equal_budget, select, snapshots, soup
from modelspace.ensemble._module import Ensemble
from modelspace.ensemble._trust import Conformal, calibration, conformal, separation

if TYPE_CHECKING:
    from modelspace.ensemble._estimator import ModelspaceClassifier, ModelspaceRegressor

__all__ = [
    "COMBINATIONS",
    "Conformal",
    "Ensemble",
    "ModelspaceClassifier",
    "ModelspaceRegressor",
    "Selection",
    "Uncertainty",
    "calibration",
    "conformal",
    "curve",
    "equal_budget",
    "predictions",
    "select",
    "separation",
    "snapshots",
    "soup",
]


def __getattr__(name: str) -> Any:
    """Import scikit-learn's side when it is asked for: it takes a second."""
    if name not in ("ModelspaceClassifier", "ModelspaceRegressor"):
        raise AttributeError(f"module 'modelspace.ensemble' has no attribute '{name}'")
    from modelspace.ensemble import _estimator

    return getattr(_estimator, name)
