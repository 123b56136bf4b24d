"""The focal loss."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from modelspace.hyperparameters import Range
from modelspace.losses.multiclass.surprisal import SurprisalLoss
from modelspace.losses.parameters import GAMMA
from modelspace.losses.properties import Properties


@dataclass(frozen=True)
class Focal(SurprisalLoss):
    """The focal loss, −(1 − p_y)^γ log p_y with p = softmax(z): cross-entropy that turns away from what is learnt.

    Not where the probabilities themselves are wanted: the softmax at the minimiser is less sure than p.

    Attributes:
        gamma: γ ≥ 0, how far it turns away; at 0 it is the cross-entropy.

    Example:
        >>> import torch
        >>> Focal(gamma=2.0)(torch.tensor([[0.0, 0.0], [5.0, 0.0]]), torch.tensor([0, 0]), reduction="none")
        tensor([1.7329e-01, 3.0081e-07])

    Source:
        Lin, Goyal, Girshick, He, Dollár, "Focal loss for dense object detection", ICCV 2017; what its minimiser is:
        Charoenphakdee, Vongkulbhisal, Chairatanakul, Sugiyama, CVPR 2021 (arXiv 2011.09172).
    """

    gamma: float = 2.0

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        lipschitz, smooth = self.constants()
        return Properties(
            r"-(1 - p_y)^\gamma \log p_y",
            convex=self.gamma == 0,
            lipschitz=lipschitz,
            smooth=smooth,
            minimiser=r"\log q_c,\; p_c \propto q_c / [(1 - q_c)^\gamma - \gamma(1 - q_c)^{\gamma-1} q_c \log q_c]",
            calibrated=True,
            proper=self.gamma == 0,
            source="Lin et al. 2017; Charoenphakdee et al. 2021",
        )

    def of_surprisal(self, u: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """F(u) = (1 − e^{−u})^γ u, and 0 with the slope 0 at u = 0, where a power has none."""
        certain = u <= 0
        missing = torch.where(certain, 1.0, -torch.expm1(-u))
        return torch.where(certain, 0, missing**self.gamma * u)

    def ranges(self) -> Mapping[str, Range]:
        """What γ may be."""
        return {"gamma": GAMMA}
