"""Every loss of ours, by name."""

from collections.abc import Mapping

from modelspace.hyperparameters import Range
from modelspace.losses.binary import BinaryCrossEntropy
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
from modelspace.losses.regression.location_scale import Gaussian, Laplace
from modelspace.losses.regression.log_mean import Gamma, Poisson, Tweedie
from modelspace.losses.regression.piecewise import Absolute, EpsilonInsensitive, Pinball
from modelspace.losses.regression.redescending import Cauchy, Tukey
from modelspace.losses.regression.smooth_absolute import Huber, LogCosh, PseudoHuber
from modelspace.losses.regression.squares import LeastSquares
from modelspace.losses.structured.coral import Coral
from modelspace.losses.structured.dice import Dice
from modelspace.losses.structured.distillation import Distillation
from modelspace.losses.structured.info_nce import InfoNCE
from modelspace.losses.structured.lovasz import LovaszHinge, LovaszSoftmax
from modelspace.losses.structured.multilabel_logistic import MultilabelLogistic
from modelspace.losses.structured.multilabel_ranking import MultilabelRanking
from modelspace.losses.structured.triplet import Triplet
from modelspace.losses.structured.tversky import FocalTversky, Tversky

REGRESSION: tuple[type[Loss], ...] = (
    LeastSquares,
    Absolute,
    Huber,
    PseudoHuber,
    LogCosh,
    Pinball,
    EpsilonInsensitive,
    Cauchy,
    Tukey,
    Gaussian,
    Laplace,
    Poisson,
    Gamma,
    Tweedie,
)
MARGIN: tuple[type[Loss], ...] = (
    Logistic,
    Hinge,
    SquaredHinge,
    ModifiedHuber,
    SquaredMargin,
    Exponential,
    Perceptron,
    Ramp,
    Savage,
    Tangent,
    BinaryFocal,
    BinaryPoly1,
    Asymmetric,
)
MULTICLASS: tuple[type[Loss], ...] = (
    CrossEntropy,
    LabelSmoothing,
    Focal,
    Poly1,
    GeneralisedCrossEntropy,
    SymmetricCrossEntropy,
    Brier,
    CrammerSinger,
    WestonWatkins,
    LeeLinWahba,
)
STRUCTURED: tuple[type[Loss], ...] = (
    BinaryCrossEntropy,
    MultilabelLogistic,
    MultilabelRanking,
    Dice,
    Tversky,
    FocalTversky,
    LovaszHinge,
    LovaszSoftmax,
    Coral,
    InfoNCE,
    Triplet,
    Distillation,
)

CATALOGUE: Mapping[str, Loss] = {
    loss.name: loss for kind in (*REGRESSION, *MARGIN, *MULTICLASS, *STRUCTURED) for loss in (kind(),)
}


def ranges() -> dict[str, Range]:
    """The ranges of all losses' hyper-parameters, by name: the columns that a population may have of them."""
    return {name: allowed for loss in CATALOGUE.values() for name, allowed in loss.ranges().items()}
