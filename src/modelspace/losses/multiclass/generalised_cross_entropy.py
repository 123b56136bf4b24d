"""Between cross-entropy and the mean absolute error, for labels that may be wrong."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from modelspace.hyperparameters import Range
from modelspace.losses.multiclass.surprisal import SurprisalLoss
from modelspace.losses.properties import Properties


@dataclass(frozen=True)
class GeneralisedCrossEntropy(SurprisalLoss):
    """(1 − p_y^q) / q with p = softmax(z): the cross-entropy as q → 0, half the absolute error of p at q = 1.

    Bounded, so a wrong label costs no more than 1/q. The gradient vanishes where p_y does: slow from a bad start.

    Attributes:
        q: In (0, 1].

    Example:
        >>> import torch
        >>> GeneralisedCrossEntropy(q=0.5)(torch.tensor([[0.0, 0.0]]), torch.tensor([0]))
        tensor(0.5858)

    Source:
        Zhang & Sabuncu, "Generalized cross entropy loss for training deep neural networks with noisy labels",
        NeurIPS 2018.
    """

    q: float = 0.7

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        lipschitz, smooth = self.constants()
        return Properties(
            r"\frac{1 - p_y^{\,q}}{q}",
            convex=False,
            lipschitz=lipschitz,
            smooth=smooth,
            bound=1 / self.q,
            minimiser=r"\frac{\log p_c}{1 - q} + \mathrm{const}",
            calibrated=True,
            proper=False,
            source="Zhang & Sabuncu 2018",
            notes="at q = 1 the risk has an infimum only: certainty of the likeliest class",
        )

    def of_surprisal(self, u: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """F(u) = (1 − e^{−qu}) / q."""
        return -torch.expm1(-self.q * u) / self.q

    def ranges(self) -> Mapping[str, Range]:
        """What q may be."""
        return {
            "q": Range("exponent", "above 0 and at most 1", 0.0, 1.0, low_included=False, high_included=True)
        }

    def minimiser(self, p: Float[Tensor, "... class"]) -> Float[Tensor, "... class"]:
        """Log p_c / (1 − q), less the greatest; at q = 1, 0 for the likeliest classes and −inf for the others."""
        behind = torch.log(p) - torch.log(p.amax(-1, keepdim=True))
        return torch.where(behind == 0, 0, behind / (1 - torch.as_tensor(self.q, dtype=p.dtype)))
