"""The Brier score of the softmax."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from modelspace.losses.multiclass.base import MulticlassLoss
from modelspace.losses.properties import Properties
from modelspace.losses.shapes import is_own

# Both are reached in the limit of two classes: with p = p_y the slope is -4 p (1 - p)^2 in the margin, steepest at
# p = 1/3, and the curvature 4 p (1 - p)^2 (3p - 1), greatest at the root of 12 p^2 - 9 p + 1; the norms in z are
# sqrt(2) and 2 times as large.
_BENT = (9 + 33**0.5) / 24
LIPSCHITZ = 2**0.5 * 16 / 27
SMOOTH = 8 * _BENT * (1 - _BENT) ** 2 * (3 * _BENT - 1)


@dataclass(frozen=True)
class Brier(MulticlassLoss):
    """The squared error of the probabilities, Σ_c (p_c − [c = y])² with p = softmax(z); from 0 to 2.

    With two classes, twice the binary Brier score (1 − p_y)².

    Example:
        >>> import torch
        >>> Brier()(torch.tensor([[0.0, 0.0]]), torch.tensor([0]))
        tensor(0.5000)

    Source:
        Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78, 1950.
    """

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\sum_c (p_c - [c = y])^2",
            convex=False,
            lipschitz=LIPSCHITZ,
            smooth=SMOOTH,
            bound=2.0,
            minimiser=r"\log p_c + \mathrm{const}",
            calibrated=True,
            proper=True,
            source="Brier 1950",
        )

    def value(
        self, z: Float[Tensor, "sample class *place"], y: Int[Tensor, "sample *place"]
    ) -> Float[Tensor, "sample *place"]:
        """ℓ of every label."""
        return (torch.softmax(z, 1) - is_own(z, y).to(z.dtype)).square().sum(1)

    def minimiser(self, p: Float[Tensor, "... class"]) -> Float[Tensor, "... class"]:
        """The logarithms of the class probabilities."""
        return torch.log(p)
