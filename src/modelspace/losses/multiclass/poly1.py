"""Cross-entropy with its first polynomial term changed."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from modelspace.hyperparameters import Range
from modelspace.losses.multiclass.surprisal import SurprisalLoss
from modelspace.losses.parameters import EPSILON
from modelspace.losses.properties import Properties


@dataclass(frozen=True)
class Poly1(SurprisalLoss):
    """−log p_y + ε (1 − p_y) with p = softmax(z): the first term of the logarithm's series weighs 1 + ε.

    Attributes:
        epsilon: ε ≥ 0; at 0 it is the cross-entropy.

    Example:
        >>> import torch
        >>> Poly1(epsilon=1.0)(torch.tensor([[0.0, 0.0]]), torch.tensor([0]))
        tensor(1.1931)

    Source:
        Leng, Tan, Liu, Cubuk, Shi, Cheng, Anguelov, "PolyLoss: a polynomial expansion perspective of classification
        loss functions", ICLR 2022.
    """

    epsilon: float = 1.0

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        lipschitz, smooth = self.constants()
        return Properties(
            r"-\log p_y + \epsilon (1 - p_y)",
            convex=self.epsilon <= 1,
            lipschitz=lipschitz,
            smooth=smooth,
            minimiser=r"\log\frac{p_c}{\lambda - \epsilon p_c},\; \lambda\colon \textstyle\sum_c q_c = 1",
            calibrated=True,
            proper=self.epsilon == 0,
            source="Leng et al. 2022",
        )

    def of_surprisal(self, u: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """F(u) = u + ε (1 − e^{−u})."""
        return u - self.epsilon * torch.expm1(-u)

    def ranges(self) -> Mapping[str, Range]:
        """What ε may be."""
        return {"epsilon": EPSILON}
