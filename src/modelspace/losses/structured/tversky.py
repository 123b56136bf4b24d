"""The Tversky loss, and a power of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from modelspace.hyperparameters import Range
from modelspace.losses.properties import Properties
from modelspace.losses.structured.region import NOTES, SMOOTH, RegionLoss, missed_share


@dataclass(frozen=True)
class Tversky(RegionLoss):
    """The Tversky loss, 1 − (TP + s) / (TP + α FP + β FN + s), over the places of each sample; see ``RegionLoss``.

    TP = Σ p y, FP = Σ p (1 − y), FN = Σ (1 − p) y. With α = β = ½ it is ``Dice`` with twice the s; with α = β = 1,
    one less the Jaccard index.

    Attributes:
        fp_weight: α ≥ 0, of what is painted beyond the region.
        fn_weight: β ≥ 0, of what is missed of it.
        smooth: s > 0.

    Example:
        >>> import torch
        >>> Tversky()(torch.tensor([[9.0, -9.0, 0.0]]), torch.tensor([[1, 0, 0]]))
        tensor(0.0698)

    Source:
        Salehi, Erdogmus, Gholipour, "Tversky loss function for image segmentation using 3D fully convolutional deep
        networks", MLMI 2017.
    """

    fp_weight: float = 0.3
    fn_weight: float = 0.7
    smooth: float = 1.0

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"1 - \frac{TP + s}{TP + \alpha FP + \beta FN + s}",
            convex=False,
            lipschitz=None,
            smooth=None,
            bound=1.0,
            source="Salehi, Erdogmus, Gholipour 2017",
            notes=NOTES,
        )

    def of_regions(
        self, p: Float[Tensor, "sample region place"], y: Float[Tensor, "sample region place"]
    ) -> Float[Tensor, "sample region"]:
        """The Tversky loss of every region."""
        return missed_share(p, y, self.fp_weight, self.fn_weight, self.smooth)

    def ranges(self) -> Mapping[str, Range]:
        """What α, β and s may be."""
        return {
            "fp_weight": Range("weight of false positives", "a number of at least 0", 0.0),
            "fn_weight": Range("weight of false negatives", "a number of at least 0", 0.0),
            "smooth": SMOOTH,
        }


@dataclass(frozen=True)
class FocalTversky(Tversky):
    """A power of the Tversky loss, ℓ^κ: with κ < 1 small regions, and the last of a region, weigh more.

    Attributes:
        region_exponent: κ > 0, the paper's 1/γ with γ from 1 to 3.

    Example:
        >>> import torch
        >>> FocalTversky(region_exponent=2.0)(torch.tensor([[9.0, -9.0, 0.0]]), torch.tensor([[1, 0, 0]]))
        tensor(0.0049)

    Source:
        Abraham & Khan, "A novel focal Tversky loss function with improved attention U-Net for lesion segmentation",
        ISBI 2019.
    """

    region_exponent: float = 0.75

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\left(1 - \frac{TP + s}{TP + \alpha FP + \beta FN + s}\right)^\kappa",
            convex=False,
            lipschitz=None,
            smooth=None,
            bound=1.0,
            source="Abraham & Khan 2019",
            notes=NOTES,
        )

    def of_regions(
        self, p: Float[Tensor, "sample region place"], y: Float[Tensor, "sample region place"]
    ) -> Float[Tensor, "sample region"]:
        """The power of the Tversky loss of every region."""
        missed = super().of_regions(p, y)
        perfect = missed <= 0
        return torch.where(perfect, 0, torch.where(perfect, 1, missed) ** self.region_exponent)

    def ranges(self) -> Mapping[str, Range]:
        """What α, β, s and κ may be."""
        exponent = Range("exponent of the region's loss", "a positive number", 0.0, low_included=False)
        return {**super().ranges(), "region_exponent": exponent}
