"""The Dice loss."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from modelspace.hyperparameters import Range
from modelspace.losses.properties import Properties
from modelspace.losses.structured.region import NOTES, SMOOTH, RegionLoss, missed_share


@dataclass(frozen=True)
class Dice(RegionLoss):
    """The Dice loss, 1 − (2 Σ p y + s) / (Σ p + Σ y + s), over the places of each sample; see ``RegionLoss``.

    Attributes:
        smooth: s > 0, which keeps an empty region from 0/0: where nothing is and nothing is found the loss is 0.
            Some put s in both sums half as large: ``optax.losses.dice_loss`` at s/2 is this at s.

    Example:
        >>> import torch
        >>> Dice()(torch.tensor([[9.0, -9.0, 0.0]]), torch.tensor([[1, 0, 0]]))
        tensor(0.1429)

    Source:
        Milletari, Navab, Ahmadi, "V-Net", 3DV 2016 (there with squares in the denominator).
    """

    smooth: float = 1.0

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"1 - \frac{2 \sum p y + s}{\sum p + \sum y + s},\; p = \sigma(z)",
            convex=False,
            lipschitz=None,
            smooth=None,
            bound=1.0,
            source="Milletari, Navab, Ahmadi 2016",
            notes=NOTES,
        )

    def of_regions(
        self, p: Float[Tensor, "sample region place"], y: Float[Tensor, "sample region place"]
    ) -> Float[Tensor, "sample region"]:
        """The Dice loss of every region."""
        return missed_share(p, y, 0.5, 0.5, self.smooth / 2)

    def ranges(self) -> Mapping[str, Range]:
        """What s may be."""
        return {"smooth": SMOOTH}
