"""Two points of a space, or of two spaces, held against each other; the losses of a run on equal terms."""

from modelspace.compare.calibration import Calibration
from modelspace.compare.comparison import BlockDistance, Comparison, compare
from modelspace.compare.evidence import LossComparison, LossResult, NoiseResult
from modelspace.compare.losses import compare_losses
from modelspace.compare.margins import Margins
from modelspace.compare.pairs import Pair

__all__ = [
    "BlockDistance",
    "Calibration",
    "Comparison",
    "LossComparison",
    "LossResult",
    "Margins",
    "NoiseResult",
    "Pair",
    "compare",
    "compare_losses",
]
