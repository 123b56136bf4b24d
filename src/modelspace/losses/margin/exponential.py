"""The exponential loss of boosting."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from modelspace.losses.finite import exponential, wide
from modelspace.losses.margin.base import MarginLoss
from modelspace.losses.properties import Properties


@dataclass(frozen=True)
class Exponential(MarginLoss):
    """The exponential loss, φ(v) = e^{−v}.

    Below v = −64 (−8 in float16, −512 in float64) it goes on along its tangent, so that neither the loss nor its
    gradient overflows. Not with mislabelled samples: one far on the wrong side outweighs all others.

    Example:
        >>> import torch
        >>> Exponential()(torch.tensor([0.0, 1.0]), torch.tensor([1, -1]), reduction="none")
        tensor([1.0000, 2.7183])

    Source:
        Freund & Schapire, "A decision-theoretic generalization of on-line learning and an application to boosting",
        J. Comput. Syst. Sci. 55, 1997; the link: Friedman, Hastie, Tibshirani, Annals of Statistics 28, 2000.
    """

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            "e^{-v}",
            convex=True,
            minimiser=r"\tfrac12 \log\frac{p}{1-p}",
            calibrated=True,
            proper=True,
            source="Freund & Schapire 1997",
            notes="goes on linearly below v = -64 (-8 in float16, -512 in float64)",
        )

    def phi(self, v: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """φ, element by element."""
        return exponential(-wide(v), v.dtype)

    def minimiser(self, p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Half the log-odds."""
        return torch.logit(p) / 2

    def probability(self, outputs: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The sigmoid of twice the score."""
        return torch.sigmoid(2 * outputs)
