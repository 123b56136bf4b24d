"""The perceptron's loss."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from modelspace.losses.margin.base import MarginLoss
from modelspace.losses.properties import Properties


@dataclass(frozen=True)
class Perceptron(MarginLoss):
    """The perceptron's loss, φ(v) = max(0, −v); its subgradient at the kink is −1.

    Not calibrated: the score 0 minimises the risk whatever the probabilities are. ``hinge`` asks for a margin.

    Example:
        >>> import torch
        >>> Perceptron()(torch.tensor([2.0, 0.0, -1.0]), torch.tensor([1, 1, 1]), reduction="none")
        tensor([0., 0., 1.])

    Source:
        Rosenblatt, "The perceptron", Psychological Review 65, 1958.
    """

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\max(0,\, -v)",
            convex=True,
            lipschitz=1.0,
            minimiser="0",
            calibrated=False,
            source="Rosenblatt 1958",
        )

    def phi(self, v: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """φ, element by element."""
        return (0 - v).clamp(min=0)

    def minimiser(self, p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """0."""
        return torch.zeros_like(p)
