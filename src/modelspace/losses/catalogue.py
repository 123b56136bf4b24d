"""Every loss of ours, by name."""

from collections.abc import Mapping

from modelspace.hyperparameters import Range
from modelspace.losses.binary import BinaryCrossEntropy
from modelspace.losses.loss import Loss
from modelspace.losses.margin.hinge import Hinge
from modelspace.losses.margin.logistic import Logistic
from modelspace.losses.multiclass.cross_entropy import CrossEntropy
from modelspace.losses.regression.squares import LeastSquares

REGRESSION: tuple[type[Loss], ...] = (LeastSquares,)
MARGIN: tuple[type[Loss], ...] = (Logistic, Hinge)
MULTICLASS: tuple[type[Loss], ...] = (CrossEntropy,)
STRUCTURED: tuple[type[Loss], ...] = (BinaryCrossEntropy,)

CATALOGUE: Mapping[str, Loss] = {
    loss.name: loss for kind in (*REGRESSION, *MARGIN, *MULTICLASS, *STRUCTURED) for loss in (kind(),)
}


def ranges() -> dict[str, Range]:
    """The ranges of all losses' hyper-parameters, by name: the columns that a population may have of them."""
    return {name: allowed for loss in CATALOGUE.values() for name, allowed in loss.ranges().items()}
