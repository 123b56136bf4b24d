"""Smooth margin losses that are bounded, so that no outlier outweighs the rest: Savage and tangent."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from modelspace.losses.finite import wide
from modelspace.losses.margin.base import MarginLoss
from modelspace.losses.margin.numerical import constants
from modelspace.losses.properties import Properties


@dataclass(frozen=True)
class Savage(MarginLoss):
    """The Savage loss, φ(v) = (1 + e^v)⁻²: the squared error of the sigmoid.

    Example:
        >>> import torch
        >>> Savage()(torch.tensor([0.0, -100.0]), torch.tensor([1, 1]), reduction="none")
        tensor([0.2500, 1.0000])

    Source:
        Masnadi-Shirazi & Vasconcelos, "On the design of loss functions for classification: theory, robustness to
        outliers, and SavageBoost", NeurIPS 2008 (there with 2v in place of v).
    """

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        steep = (15 - 33**0.5) / 24
        return Properties(
            r"(1 + e^{v})^{-2}",
            convex=False,
            lipschitz=8 / 27,
            smooth=2 * steep**2 * (1 - steep) * (2 - 3 * steep),
            bound=1.0,
            minimiser=r"\log\frac{p}{1-p}",
            calibrated=True,
            proper=True,
            source="Masnadi-Shirazi & Vasconcelos 2008",
        )

    def phi(self, v: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """φ, element by element."""
        return torch.sigmoid(-wide(v)).square()

    def minimiser(self, p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The log-odds, log(p / (1 − p))."""
        return torch.logit(p)

    def probability(self, outputs: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The sigmoid of the score."""
        return torch.sigmoid(outputs)


@dataclass(frozen=True)
class Tangent(MarginLoss):
    """The tangent loss, φ(v) = (2 arctan(v) − 1)²: it also punishes what is too far on the right side.

    Example:
        >>> import torch
        >>> Tangent()(torch.tensor([0.0, 0.5463]), torch.tensor([1, 1]), reduction="none").round(decimals=3)
        tensor([1., 0.])

    Source:
        Masnadi-Shirazi, Mahadevan, Vasconcelos, "On the design of robust classifiers for computer vision", CVPR 2010.
    """

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        lipschitz, smooth = constants(self.phi)
        return Properties(
            r"(2 \arctan v - 1)^2",
            convex=False,
            lipschitz=lipschitz,
            smooth=smooth,
            bound=(math.pi + 1) ** 2,
            minimiser=r"\tan(p - \tfrac12)",
            calibrated=True,
            proper=True,
            source="Masnadi-Shirazi, Mahadevan & Vasconcelos 2010",
        )

    def phi(self, v: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """φ, element by element."""
        return (2 * torch.atan(wide(v)) - 1).square()

    def minimiser(self, p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """tan(p − ½)."""
        return torch.tan(p - 0.5)

    def probability(self, outputs: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """arctan(z) + ½, held between 0 and 1."""
        return (torch.atan(outputs) + 0.5).clamp(0, 1)
