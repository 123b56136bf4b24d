"""The asymmetric loss for labels of which few are positive."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from modelspace.hyperparameters import Range
from modelspace.losses.finite import scalar, wide
from modelspace.losses.margin.base import MarginLoss
from modelspace.losses.margin.logistic import SOFTPLUS_THRESHOLD
from modelspace.losses.margin.numerical import constants, minimiser
from modelspace.losses.parameters import GAMMA
from modelspace.losses.properties import Properties


@dataclass(frozen=True)
class Asymmetric(MarginLoss):
    """The asymmetric loss: with q = σ(z), −(1 − q)^γ₊ log q for y = +1, −r^γ₋ log(1 − r), r = max(0, q − m), for −1.

    It is no function of the margin alone. Not where the threshold 0 is to be the best one: the two sides have
    different weights, and of negatives with q ≤ m nothing is asked.

    Attributes:
        gamma_positive: γ₊ ≥ 0, the focusing of positives.
        gamma_negative: γ₋ ≥ 0, that of negatives.
        shift: m in [0, 1), below which a negative counts as learnt.

    Example:
        >>> import torch
        >>> Asymmetric()(torch.tensor([0.0, 0.0, -5.0]), torch.tensor([1, -1, -1]), reduction="none")
        tensor([0.6931, 0.0245, 0.0000])

    Source:
        Ridnik, Ben-Baruch, Zamir, Noy, Friedman, Protter, Zelnik-Manor, "Asymmetric loss for multi-label
        classification", ICCV 2021.
    """

    gamma_positive: float = 0.0
    gamma_negative: float = 4.0
    shift: float = 0.05

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        positive, negative = constants(self._positive), constants(self._negative)
        kinked = self.shift > 0 and self.gamma_negative < 1
        symmetric = self.gamma_positive == self.gamma_negative and self.shift == 0
        plain = symmetric and self.gamma_positive == 0
        return Properties(
            r"\begin{cases}-(1 - q)^{\gamma_+} \log q & y = +1\\ -r^{\gamma_-} \log(1 - r) & y = -1\end{cases}"
            r",\; q = \sigma(z),\; r = \max(0, q - m)",
            convex=plain,
            lipschitz=max(positive[0], negative[0]),
            smooth=torch.inf if kinked else max(positive[1], negative[1]),
            minimiser=r"z\colon\; p\,\ell'(z, +1) = -(1 - p)\,\ell'(z, -1)",
            calibrated=symmetric,
            proper=plain,
            source="Ridnik et al. 2021",
            notes="with m > 0 the minimiser is +inf for p near 1, where a negative's loss is bounded",
        )

    def ranges(self) -> Mapping[str, Range]:
        """What γ₊, γ₋ and m may be."""
        shift = Range("probability shift", "at least 0 and below 1", 0.0, 1.0)
        return {"gamma_positive": GAMMA, "gamma_negative": GAMMA, "shift": shift}

    def phi(self, v: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The loss of positives."""
        return self._positive(v)

    def signed(self, z: Float[Tensor, "..."], y: Float[Tensor, "..."] | float) -> Float[Tensor, "..."]:
        """The loss of scores z with signs y, element by element."""
        if not isinstance(y, Tensor):
            return self._positive(z) if y > 0 else self._negative(z)
        return torch.where(y > 0, self._positive(z), self._negative(z))

    def _positive(self, z: Tensor) -> Tensor:
        z = wide(z)
        return torch.exp(-self.gamma_positive * _softplus(z)) * _softplus(-z)

    def _negative(self, z: Tensor) -> Tensor:
        z = wide(z)
        shift = scalar(self.shift, z)
        excess = torch.sigmoid(z) - shift
        counts = excess > 0
        power = torch.where(counts, excess, 1) ** self.gamma_negative
        # log(1 - r) = log(σ(-z) + m): where σ(z) rounds to 1 and m is 0, only the left-hand side is infinite.
        return torch.where(counts, -power * torch.logaddexp(-_softplus(z), torch.log(shift)), 0)

    def minimiser(self, p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Found numerically, to about 1e-9; +inf where the risk falls for ever."""
        return minimiser(self.signed, p)

    def probability(self, outputs: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The sigmoid of the score."""
        return torch.sigmoid(outputs)


def _softplus(x: Tensor) -> Tensor:
    return F.softplus(x, threshold=SOFTPLUS_THRESHOLD)
