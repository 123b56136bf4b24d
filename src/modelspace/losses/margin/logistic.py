"""The logistic loss."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from modelspace.losses.margin.base import MarginLoss
from modelspace.losses.properties import Properties

# Above its threshold torch's softplus returns its argument. The default of 20 leaves a relative error of
# 1e-10, which float64 sees; at 40 what is dropped, exp(-40), is below the rounding of every dtype.
SOFTPLUS_THRESHOLD = 40


@dataclass(frozen=True)
class Logistic(MarginLoss):
    """The logistic loss, φ(v) = log(1 + exp(−v)).

    Computed as softplus(−v), which stays finite where ``torch.nn.functional.soft_margin_loss``, the same function,
    overflows (v = −89 in float32).

    Example:
        >>> import torch
        >>> Logistic()(torch.tensor([0.0, -1000.0]), torch.tensor([1, 1]), reduction="none")
        tensor([6.9315e-01, 1.0000e+03])

    Source:
        Cox, "The regression analysis of binary sequences", J. R. Stat. Soc. B 20, 1958.
    """

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\log(1 + e^{-v})",
            convex=True,
            lipschitz=1.0,
            smooth=0.25,
            minimiser=r"\log\frac{p}{1-p}",
            calibrated=True,
            proper=True,
            source="Cox 1958",
        )

    def phi(self, v: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """φ, element by element."""
        return F.softplus(-v, threshold=SOFTPLUS_THRESHOLD)

    def minimiser(self, p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The log-odds, log(p / (1 − p))."""
        return torch.logit(p)

    def probability(self, outputs: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The sigmoid of the score: the probability of +1."""
        return torch.sigmoid(outputs)
