"""Losses: functions of outputs and labels that know what they are, with a contract on both."""

# ruff: noqa: I001, RUF022  two lists of names, packed
# fmt: off
from modelspace.losses._base import Loss, Properties, parameter, prediction
from modelspace.losses._catalogue import CATALOGUE, KINDS, ranges, table
from modelspace.losses._checks import (
    LEFT_OUT, Contract, anything, by_class, class_labels, class_maps, is_own, kept, leaves_some_out, plus_minus_one,
    require_class_labels, require_same_shape, that_count, zero_one,
)
from modelspace.losses._classes import ClassLoss
from modelspace.losses._choice import Choice
from modelspace.losses._curves import Curve, curve, curves, has_curve, plot
from modelspace.losses._embedding import EmbeddingLoss, InfoNCE, Triplet
from modelspace.losses._given import Given, resolve
from modelspace.losses._likelihoods import (
    Gamma, Gaussian, Laplace, LocationScaleLoss, LogMeanLoss, Poisson, Tweedie,
)
from modelspace.losses._margin import (
    Asymmetric, BinaryFocal, BinaryPoly1, Exponential, Hinge, Logistic, MarginLoss, ModifiedHuber, Perceptron,
    Ramp, Savage, SquaredHinge, SquaredMargin, Tangent,
)
from modelspace.losses._multiclass import (
    Brier, CrammerSinger, CrossEntropy, Focal, GeneralisedCrossEntropy, LabelSmoothing, LeeLinWahba,
    MulticlassLoss, Poly1, SurprisalLoss, SymmetricCrossEntropy, WestonWatkins,
)
from modelspace.losses._objective import Objective, Objectives, has_own, objective_of, of_the_model
from modelspace.losses._probe import kinds_in, leaves, tensors_of
from modelspace.losses._regression import (
    Absolute, Cauchy, EpsilonInsensitive, Huber, LeastSquares, LogCosh, Pinball, PseudoHuber, RegressionLoss,
    Tukey,
)
from modelspace.losses._segmentation import (
    Dice, FocalTversky, LovaszHinge, LovaszSoftmax, RegionLoss, Tversky,
)
from modelspace.losses._weighted import Weighted
from modelspace.losses._sets import (
    BinaryCrossEntropy, Coral, Distillation, MultilabelLogistic, MultilabelLoss, MultilabelRanking,
)

__all__ = [
    "Absolute", "Asymmetric", "BinaryCrossEntropy", "BinaryFocal", "BinaryPoly1", "Brier", "CATALOGUE",
    "Cauchy", "Choice", "ClassLoss", "Contract", "Coral", "CrammerSinger", "CrossEntropy", "Curve", "Dice",
    "Distillation", "EmbeddingLoss", "EpsilonInsensitive", "Exponential", "Focal", "FocalTversky",
    "Gamma", "Gaussian", "GeneralisedCrossEntropy", "Given", "Hinge", "Huber", "InfoNCE", "KINDS",
    "LabelSmoothing", "Laplace", "LeastSquares", "LeeLinWahba", "LocationScaleLoss", "LogCosh",
    "LogMeanLoss", "Logistic", "Loss", "LovaszHinge", "LovaszSoftmax", "MarginLoss", "ModifiedHuber",
    "MulticlassLoss", "MultilabelLogistic", "MultilabelLoss", "MultilabelRanking", "Objective", "Objectives",
    "Perceptron", "Pinball", "Poisson", "Poly1", "Properties", "PseudoHuber", "Ramp", "RegionLoss",
    "RegressionLoss", "Savage", "SquaredHinge", "SquaredMargin", "SurprisalLoss", "SymmetricCrossEntropy",
    "Tangent", "Triplet", "Tukey", "Tversky", "Tweedie", "Weighted", "WestonWatkins", "anything", "by_class",
    "LEFT_OUT", "class_labels", "class_maps", "curve", "curves", "has_curve", "has_own", "is_own", "kept",
    "kinds_in", "leaves", "leaves_some_out", "objective_of",
    "of_the_model", "parameter", "plot", "plus_minus_one", "prediction", "ranges", "require_class_labels",
    "require_same_shape", "resolve", "table", "tensors_of", "that_count", "zero_one",
]
