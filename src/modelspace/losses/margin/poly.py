"""The poly-1 loss of two classes."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from modelspace.hyperparameters import Range
from modelspace.losses.finite import wide
from modelspace.losses.margin.base import MarginLoss
from modelspace.losses.margin.logistic import SOFTPLUS_THRESHOLD
from modelspace.losses.parameters import EPSILON
from modelspace.losses.properties import Properties


@dataclass(frozen=True)
class BinaryPoly1(MarginLoss):
    """The poly-1 loss of two classes, φ(v) = −log σ(v) + ε (1 − σ(v)): the logistic loss with more of its first term.

    Attributes:
        epsilon: ε ≥ 0; at 0 it is the logistic loss. Convex up to 1.

    Example:
        >>> import torch
        >>> BinaryPoly1(epsilon=1.0)(torch.tensor([0.0]), torch.tensor([1]), reduction="none")
        tensor([1.1931])

    Source:
        Leng, Tan, Liu, Cubuk, Shi, Cheng, Anguelov, "PolyLoss: a polynomial expansion perspective of classification
        loss functions", ICLR 2022.
    """

    epsilon: float = 1.0

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        e = self.epsilon
        t = e / (1 + (1 + 3 * e**2) ** 0.5)  # of v with the largest curvature, tanh(v / 2)
        return Properties(
            r"-\log \sigma(v) + \varepsilon\,(1 - \sigma(v))",
            convex=e <= 1,
            lipschitz=1.0 if e <= 1 else (1 + e) ** 2 / (4 * e),
            smooth=(1 - t**2) * (1 + e * t) / 4,
            minimiser=r"\log\frac{s}{1-s},\; c s^2 - (1 + c) s + p = 0,\; c = \varepsilon (1 - 2p)",
            calibrated=True,
            proper=e == 0,
            source="Leng et al. 2022",
        )

    def ranges(self) -> Mapping[str, Range]:
        """What ε may be."""
        return {"epsilon": EPSILON}

    def phi(self, v: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """φ, element by element."""
        v = wide(v)
        return F.softplus(-v, threshold=SOFTPLUS_THRESHOLD) + self.epsilon * torch.sigmoid(-v)

    def minimiser(self, p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The log-odds of s, the root between 0 and 1 of c s² − (1 + c) s + p with c = ε (1 − 2p)."""
        c = self.epsilon * (1 - 2 * p)
        return torch.logit(2 * p / (1 + c + ((1 + c).square() - 4 * c * p).sqrt()))

    def probability(self, outputs: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The sigmoid of the score."""
        return torch.sigmoid(outputs)
