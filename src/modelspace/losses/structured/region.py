"""A loss of how soft regions overlap with true ones."""

from typing import Any

from jaxtyping import Float, Shaped
from torch import Tensor

from modelspace.hyperparameters import Range
from modelspace.losses.contracts import Contract
from modelspace.losses.loss import Loss
from modelspace.losses.structured.contracts import masks_or_classes
from modelspace.losses.structured.forms import regions

SMOOTH = Range("smoothing constant", "a positive number", 0.0, low_included=False)
NOTES = "one value a sample: the places of a sample are coupled, samples are not"


class RegionLoss(Loss):
    """A loss of the soft region that a sample's scores paint and of the true one; one value a sample, ``[N]``.

    Two forms, told apart by the shapes:

    * scores ``[N, …]`` and masks of 0 and 1 of the same shape: the sigmoid's region, all places of a sample together;
    * scores ``[N, C, …]``, C ≥ 2, and classes ``[N, …]``: the softmax's regions, the mean over the C classes. A class
      of −100 is left out.
    """

    outputs = "score"
    labels = "unit"

    def of_regions(
        self, p: Float[Tensor, "sample region place"], y: Float[Tensor, "sample region place"]
    ) -> Float[Tensor, "sample region"]:
        """The loss of every region: probabilities p and truth y."""
        raise NotImplementedError

    def each(self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ of every sample, ``[N]``."""
        return self.of_regions(*regions(self.name, outputs, labels)).mean(1)

    @property
    def contract(self) -> Contract:
        """Masks of 0 and 1, or classes."""
        return masks_or_classes


def missed_share(
    p: Float[Tensor, "sample region place"],
    y: Float[Tensor, "sample region place"],
    fp_weight: Any,
    fn_weight: Any,
    smooth: Any,
) -> Float[Tensor, "sample region"]:
    """One less the Tversky index, (α FP + β FN) / (TP + α FP + β FN + s), of every region.

    Args:
        p: Probabilities.
        y: Truth, 0 or 1.
        fp_weight: α.
        fn_weight: β.
        smooth: s.
    """
    hit = (p * y).sum(-1)
    missed = fp_weight * (p * (1 - y)).sum(-1) + fn_weight * ((1 - p) * y).sum(-1)
    return missed / (hit + missed + smooth)
