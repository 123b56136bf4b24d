"""The ramp loss."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from modelspace.losses.margin.base import MarginLoss
from modelspace.losses.properties import Properties


@dataclass(frozen=True)
class Ramp(MarginLoss):
    """The ramp loss, φ(v) = min(1, max(0, 1 − v)): the hinge loss cut off at 1, deaf to outliers.

    Its subgradient at both kinks is −1. Below v = 0 it has no slope: start from scores near 0.

    Example:
        >>> import torch
        >>> Ramp()(torch.tensor([2.0, 0.5, -3.0]), torch.tensor([1, 1, 1]), reduction="none")
        tensor([0.0000, 0.5000, 1.0000])

    Source:
        Collobert, Sinz, Weston, Bottou, "Trading convexity for scalability", ICML 2006, with s = 0.
    """

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\min(1, \max(0,\, 1 - v))",
            convex=False,
            lipschitz=1.0,
            bound=1.0,
            minimiser=r"\operatorname{sign}(2p - 1)",
            calibrated=True,
            source="Collobert et al. 2006",
        )

    def phi(self, v: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """φ, element by element."""
        return (1 - v).clamp(0, 1)

    def minimiser(self, p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The sign of 2p − 1."""
        return torch.sign(2 * p - 1)
