"""The hinge loss."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from modelspace.losses.margin.base import MarginLoss
from modelspace.losses.properties import Properties


@dataclass(frozen=True)
class Hinge(MarginLoss):
    """The hinge loss, φ(v) = max(0, 1 − v); its subgradient at the kink is −1.

    ``margin_ranking_loss(z, 0, y, margin=1)`` of PyTorch.

    Example:
        >>> import torch
        >>> Hinge()(torch.tensor([2.0, 0.0, -1.0]), torch.tensor([1, 1, 1]), reduction="none")
        tensor([0., 1., 2.])

    Source:
        Cortes & Vapnik, "Support-vector networks", Machine Learning 20, 1995.
    """

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\max(0,\, 1 - v)",
            convex=True,
            lipschitz=1.0,
            minimiser=r"\operatorname{sign}(2p - 1)",
            calibrated=True,
            source="Cortes & Vapnik 1995",
        )

    def phi(self, v: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """φ, element by element."""
        return (1 - v).clamp(min=0)

    def minimiser(self, p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The sign of 2p − 1."""
        return torch.sign(2 * p - 1)
