"""The multiclass hinge loss, summed over the rivals."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from modelspace.losses.finite import wide
from modelspace.losses.multiclass.base import MulticlassLoss, own
from modelspace.losses.properties import Properties
from modelspace.losses.shapes import is_own


@dataclass(frozen=True)
class WestonWatkins(MulticlassLoss):
    """The hinge losses of the leads over all rivals, Σ_{c≠y} max(0, 1 + z_c − z_y).

    C times ``torch.nn.functional.multi_margin_loss``, which is often taken for the loss of Crammer and Singer.

    Example:
        >>> import torch
        >>> WestonWatkins()(torch.tensor([[2.0, 1.5, 1.5]]), torch.tensor([0]))
        tensor(1.)

    Source:
        Weston & Watkins, "Support vector machines for multi-class pattern recognition", ESANN 1999; what it is
        calibrated for: Wang & Scott, "Weston-Watkins hinge loss and ordered partitions", NeurIPS 2020.
    """

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\sum_{c \ne y} \max(0,\, 1 + z_c - z_y)",
            convex=True,
            minimiser="whole numbers, in the order of the probabilities but with ties",
            calibrated=False,
            source="Weston & Watkins 1999; Wang & Scott 2020",
            notes="with C classes the Lipschitz constant is sqrt(C (C - 1)); "
            "at the class probabilities (.4, .35, .25) the two likeliest tie",
        )

    def value(
        self, z: Float[Tensor, "sample class *place"], y: Int[Tensor, "sample *place"]
    ) -> Float[Tensor, "sample *place"]:
        """ℓ of every label."""
        z = wide(z)
        short = (1 + z - own(z, y).unsqueeze(1)).clamp(min=0)
        return short.masked_fill(is_own(z, y), 0).sum(1)

    def probability(self, outputs: Float[Tensor, "..."]) -> None:
        """None: the scores are no probabilities."""
        return
