"""Losses: functions of outputs and labels that know what they are, with a contract on both."""

from modelspace.losses.binary import BinaryCrossEntropy
from modelspace.losses.catalogue import CATALOGUE
from modelspace.losses.choice import Choice
from modelspace.losses.given import Given
from modelspace.losses.loss import Loss
from modelspace.losses.margin.hinge import Hinge
from modelspace.losses.margin.logistic import Logistic
from modelspace.losses.multiclass.cross_entropy import CrossEntropy
from modelspace.losses.properties import Properties
from modelspace.losses.regression.squares import LeastSquares
from modelspace.losses.resolve import resolve

__all__ = [
    "CATALOGUE",
    "BinaryCrossEntropy",
    "Choice",
    "CrossEntropy",
    "Given",
    "Hinge",
    "LeastSquares",
    "Logistic",
    "Loss",
    "Properties",
    "resolve",
]
