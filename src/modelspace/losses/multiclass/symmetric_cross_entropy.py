"""Cross-entropy both ways round, for labels that may be wrong."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from modelspace.hyperparameters import Range
from modelspace.losses.multiclass.surprisal import SurprisalLoss
from modelspace.losses.properties import Properties

LOG_ZERO = -4.0  # what the paper takes for log 0 in its experiments


@dataclass(frozen=True)
class SymmetricCrossEntropy(SurprisalLoss):
    """α times the cross-entropy −log p_y plus β times the reverse one, −Σ_c p_c log [c = y], where log 0 is −4.

    The reverse is 4 (1 − p_y), so the sum is α times ``Poly1`` with ε = 4β/α.

    Attributes:
        forward_weight: α > 0.
        reverse_weight: β ≥ 0.

    Example:
        >>> import torch
        >>> SymmetricCrossEntropy(forward_weight=1.0)(torch.tensor([[0.0, 0.0]]), torch.tensor([0]))
        tensor(2.6931)

    Source:
        Wang, Ma, Chen, Luo, Yi, Bailey, "Symmetric cross entropy for robust learning with noisy labels", ICCV 2019.
    """

    forward_weight: float = 0.1
    reverse_weight: float = 1.0

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        lipschitz, smooth = self.constants()
        return Properties(
            r"-\alpha \log p_y + 4 \beta (1 - p_y)",
            convex=-LOG_ZERO * self.reverse_weight <= self.forward_weight,
            lipschitz=lipschitz,
            smooth=smooth,
            minimiser=r"\log\frac{p_c}{\lambda - 4 \beta p_c / \alpha},\; \lambda\colon \textstyle\sum_c q_c = 1",
            calibrated=True,
            proper=self.reverse_weight == 0,
            source="Wang et al. 2019",
        )

    def of_surprisal(self, u: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """F(u) = αu + 4β (1 − e^{−u})."""
        return self.forward_weight * u + LOG_ZERO * self.reverse_weight * torch.expm1(-u)

    def ranges(self) -> Mapping[str, Range]:
        """What α and β may be."""
        return {
            "forward_weight": Range(
                "weight of the cross-entropy", "a positive number", 0.0, low_included=False
            ),
            "reverse_weight": Range("weight of the reverse cross-entropy", "a number of at least 0", 0.0),
        }
