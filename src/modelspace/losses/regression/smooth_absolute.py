"""Squares near 0 and straight lines far from it: Huber, pseudo-Huber, log-cosh."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from modelspace.hyperparameters import Range
from modelspace.losses.finite import scalar
from modelspace.losses.parameters import DELTA
from modelspace.losses.properties import Properties
from modelspace.losses.regression.base import RegressionLoss, residual


@dataclass(frozen=True)
class Huber(RegressionLoss):
    """The Huber loss of r = y − z: ½r² where |r| ≤ δ, δ(|r| − ½δ) elsewhere; ``torch.nn.functional.huber_loss``.

    Attributes:
        delta: δ > 0, in the labels' unit; 1.345 standard deviations lose 5 % of a Gaussian's information.

    Example:
        >>> import torch
        >>> Huber(delta=1.0)(torch.tensor([0.0, 0.0]), torch.tensor([0.5, -3.0]), reduction="none")
        tensor([0.1250, 2.5000])

    Source:
        Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35, 1964.
    """

    delta: float = 1.0

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\begin{cases}\tfrac12 r^2 & |r| \le \delta\\ \delta(|r| - \tfrac12 \delta) & |r| > \delta\end{cases}"
            r",\; r = y - z",
            convex=True,
            lipschitz=self.delta,
            smooth=1.0,
            minimiser="mean of the labels, those beyond δ drawn to δ",
            source="Huber 1964",
        )

    def ranges(self) -> Mapping[str, Range]:
        """What δ may be."""
        return {"delta": DELTA}

    def value(self, z: Float[Tensor, "..."], y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ, element by element."""
        r = residual(z, y)
        delta = scalar(self.delta, r)
        near = torch.minimum(torch.maximum(r, -delta), delta)
        return near * (r - near / 2)


@dataclass(frozen=True)
class PseudoHuber(RegressionLoss):
    """The pseudo-Huber loss, δ² (√(1 + (r/δ)²) − 1) with r = y − z: Huber's with all derivatives.

    Computed as δ r² / (δ + √(δ² + r²)), which does not cancel near 0.

    Attributes:
        delta: δ > 0, in the labels' unit.

    Example:
        >>> import torch
        >>> PseudoHuber(delta=1.0)(torch.tensor([0.0, 0.0]), torch.tensor([1e-6, -1000.0]), reduction="none")
        tensor([5.0000e-13, 9.9900e+02])

    Source:
        Charbonnier, Blanc-Féraud, Aubert, Barlaud, "Deterministic edge-preserving regularization in computed
        imaging", IEEE Trans. Image Processing 6, 1997.
    """

    delta: float = 1.0

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\delta^2 \left(\sqrt{1 + (r / \delta)^2} - 1\right),\; r = y - z",
            convex=True,
            lipschitz=self.delta,
            smooth=1.0,
            minimiser=r"z\colon\; E\, r / \sqrt{1 + (r / \delta)^2} = 0",
            source="Charbonnier et al. 1997",
        )

    def ranges(self) -> Mapping[str, Range]:
        """What δ may be."""
        return {"delta": DELTA}

    def value(self, z: Float[Tensor, "..."], y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ, element by element."""
        r = residual(z, y)
        delta = scalar(self.delta, r)
        return delta * r * (r / (delta + torch.hypot(delta, r)))


@dataclass(frozen=True)
class LogCosh(RegressionLoss):
    """The logarithm of the hyperbolic cosine, log cosh(y − z): ½r² near 0, |r| − log 2 far from it.

    Computed without cancellation near 0 and without overflow far from it.

    Example:
        >>> import torch
        >>> LogCosh()(torch.tensor([0.0, 0.0]), torch.tensor([1e-6, -1000.0]), reduction="none")
        tensor([5.0000e-13, 9.9931e+02])

    Source:
        Green, "Bayesian reconstructions from emission tomography data using a modified EM algorithm",
        IEEE Trans. Medical Imaging 9, 1990.
    """

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\log \cosh(y - z)",
            convex=True,
            lipschitz=1.0,
            smooth=1.0,
            minimiser=r"z\colon\; E \tanh(y - z) = 0",
            source="Green 1990",
        )

    def value(self, z: Float[Tensor, "..."], y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ, element by element."""
        r = residual(z, y)
        size = r.abs()
        near = torch.log1p(2 * torch.sinh(r.clamp(-1, 1) / 2).square())
        return torch.where(size <= 1, near, size + torch.log1p(torch.exp(-2 * size)) - math.log(2))
