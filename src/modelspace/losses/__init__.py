"""Losses: functions of outputs and labels that know what they are, with a contract on both."""

from modelspace.losses.binary import BinaryCrossEntropy
from modelspace.losses.catalogue import CATALOGUE, ranges
from modelspace.losses.choice import Choice
from modelspace.losses.curves import Curve, curve, curves
from modelspace.losses.given import Given
from modelspace.losses.loss import Loss
from modelspace.losses.margin.asymmetric import Asymmetric
from modelspace.losses.margin.bounded import Savage, Tangent
from modelspace.losses.margin.exponential import Exponential
from modelspace.losses.margin.focal import BinaryFocal
from modelspace.losses.margin.hinge import Hinge
from modelspace.losses.margin.logistic import Logistic
from modelspace.losses.margin.perceptron import Perceptron
from modelspace.losses.margin.poly import BinaryPoly1
from modelspace.losses.margin.ramp import Ramp
from modelspace.losses.margin.squares import ModifiedHuber, SquaredHinge, SquaredMargin
from modelspace.losses.multiclass.brier import Brier
from modelspace.losses.multiclass.crammer_singer import CrammerSinger
from modelspace.losses.multiclass.cross_entropy import CrossEntropy
from modelspace.losses.multiclass.focal import Focal
from modelspace.losses.multiclass.generalised_cross_entropy import GeneralisedCrossEntropy
from modelspace.losses.multiclass.label_smoothing import LabelSmoothing
from modelspace.losses.multiclass.lee_lin_wahba import LeeLinWahba
from modelspace.losses.multiclass.poly1 import Poly1
from modelspace.losses.multiclass.symmetric_cross_entropy import SymmetricCrossEntropy
from modelspace.losses.multiclass.weston_watkins import WestonWatkins
from modelspace.losses.plot import plot
from modelspace.losses.properties import Properties
from modelspace.losses.regression.location_scale import Gaussian, Laplace
from modelspace.losses.regression.log_mean import Gamma, Poisson, Tweedie
from modelspace.losses.regression.piecewise import Absolute, EpsilonInsensitive, Pinball
from modelspace.losses.regression.redescending import Cauchy, Tukey
from modelspace.losses.regression.smooth_absolute import Huber, LogCosh, PseudoHuber
from modelspace.losses.regression.squares import LeastSquares
from modelspace.losses.resolve import resolve
from modelspace.losses.sample_mean import is_sample_mean
from modelspace.losses.structured.coral import Coral
from modelspace.losses.structured.dice import Dice
from modelspace.losses.structured.distillation import Distillation
from modelspace.losses.structured.info_nce import InfoNCE
from modelspace.losses.structured.lovasz import LovaszHinge, LovaszSoftmax
from modelspace.losses.structured.multilabel_logistic import MultilabelLogistic
from modelspace.losses.structured.multilabel_ranking import MultilabelRanking
from modelspace.losses.structured.triplet import Triplet
from modelspace.losses.structured.tversky import FocalTversky, Tversky
from modelspace.losses.table import table

__all__ = [
    "CATALOGUE",
    "Absolute",
    "Asymmetric",
    "BinaryCrossEntropy",
    "BinaryFocal",
    "BinaryPoly1",
    "Brier",
    "Cauchy",
    "Choice",
    "Coral",
    "CrammerSinger",
    "CrossEntropy",
    "Curve",
    "Dice",
    "Distillation",
    "EpsilonInsensitive",
    "Exponential",
    "Focal",
    "FocalTversky",
    "Gamma",
    "Gaussian",
    "GeneralisedCrossEntropy",
    "Given",
    "Hinge",
    "Huber",
    "InfoNCE",
    "LabelSmoothing",
    "Laplace",
    "LeastSquares",
    "LeeLinWahba",
    "LogCosh",
    "Logistic",
    "Loss",
    "LovaszHinge",
    "LovaszSoftmax",
    "ModifiedHuber",
    "MultilabelLogistic",
    "MultilabelRanking",
    "Perceptron",
    "Pinball",
    "Poisson",
    "Poly1",
    "Properties",
    "PseudoHuber",
    "Ramp",
    "Savage",
    "SquaredHinge",
    "SquaredMargin",
    "SymmetricCrossEntropy",
    "Tangent",
    "Triplet",
    "Tukey",
    "Tversky",
    "Tweedie",
    "WestonWatkins",
    "curve",
    "curves",
    "is_sample_mean",
    "plot",
    "ranges",
    "resolve",
    "table",
]
