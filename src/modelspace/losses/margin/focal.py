"""The focal loss of two classes."""

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
from modelspace.losses.margin.numerical import constants, minimiser
from modelspace.losses.parameters import GAMMA
from modelspace.losses.properties import Properties


@dataclass(frozen=True)
class BinaryFocal(MarginLoss):
    """The focal loss of two classes, φ(v) = −(1 − σ(v))^γ log σ(v): logistic, but it turns away from what is learnt.

    Not where probabilities are wanted: the sigmoid at the minimiser is nearer to ½ than p.

    Attributes:
        gamma: γ ≥ 0, how far it turns away; at 0 it is the logistic loss.

    Example:
        >>> import torch
        >>> BinaryFocal()(torch.tensor([0.0, -1000.0]), torch.tensor([1, 1]), reduction="none")
        tensor([1.7329e-01, 1.0000e+03])

    Source:
        Lin, Goyal, Girshick, He, Dollár, "Focal loss for dense object detection", ICCV 2017; its minimiser:
        Charoenphakdee, Vongkulbhisal, Chairatanakul, Sugiyama, CVPR 2021 (arXiv 2011.09172).
    """

    gamma: float = 2.0

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        lipschitz, smooth = constants(self.phi)
        return Properties(
            r"-(1 - \sigma(v))^\gamma \log \sigma(v)",
            convex=self.gamma == 0,
            lipschitz=lipschitz,
            smooth=smooth,
            minimiser=r"z\colon\; p\,\varphi'(z) = (1 - p)\,\varphi'(-z)",
            calibrated=True,
            proper=self.gamma == 0,
            source="Lin et al. 2017; Charoenphakdee et al. 2021",
        )

    def ranges(self) -> Mapping[str, Range]:
        """What γ may be."""
        return {"gamma": GAMMA}

    def phi(self, v: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """φ, element by element."""
        v = wide(v)
        missing = F.softplus(
            v, threshold=SOFTPLUS_THRESHOLD
        )  # -log(1 - σ(v)): a power of 1 - σ(v) without a power
        return torch.exp(-self.gamma * missing) * F.softplus(-v, threshold=SOFTPLUS_THRESHOLD)

    def minimiser(self, p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Found numerically, to about 1e-9."""
        return minimiser(self.signed, p)

    def probability(self, outputs: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The sigmoid of the score."""
        return torch.sigmoid(outputs)
