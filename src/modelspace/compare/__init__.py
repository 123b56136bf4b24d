"""Two points of a space, or of two spaces, held against each other; the losses of a run on equal terms; verdicts."""

from modelspace.compare.calibration import Calibration, CalibrationTally
from modelspace.compare.comparison import BlockDistance, Comparison, compare
from modelspace.compare.evidence import LossComparison, LossResult, NoiseResult
from modelspace.compare.losses import compare_losses
from modelspace.compare.margins import Margins
from modelspace.compare.pairs import Pair
from modelspace.compare.superiority import pairs_needed
from modelspace.compare.verdict import Contestant, Verdict
from modelspace.compare.versus import versus, versus_runs

__all__ = [
    "BlockDistance",
    "Calibration",
    "CalibrationTally",
    "Comparison",
    "Contestant",
    "LossComparison",
    "LossResult",
    "Margins",
    "NoiseResult",
    "Pair",
    "Verdict",
    "compare",
    "compare_losses",
    "pairs_needed",
    "versus",
    "versus_runs",
]
