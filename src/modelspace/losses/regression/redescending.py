"""Losses whose slope falls again where the error is large, so that outliers fade out: Cauchy, Tukey."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from modelspace.hyperparameters import Range
from modelspace.losses.finite import scalar
from modelspace.losses.parameters import SCALE
from modelspace.losses.properties import Properties
from modelspace.losses.regression.base import RegressionLoss, residual


@dataclass(frozen=True)
class Cauchy(RegressionLoss):
    """The Cauchy or Lorentzian loss, ½c² log(1 + (r/c)²) with r = y − z.

    Attributes:
        scale: c > 0, in the labels' unit; the default times the standard deviation loses 5 % of a Gaussian's
            information.

    Example:
        >>> import torch
        >>> Cauchy(scale=1.0)(torch.tensor([0.0, 0.0]), torch.tensor([1.0, -1000.0]), reduction="none")
        tensor([0.3466, 6.9078])

    Source:
        Holland & Welsch, "Robust regression using iteratively reweighted least-squares", Comm. Statist. 6, 1977.
    """

    scale: float = 2.385

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\tfrac12 c^2 \log\left(1 + (r / c)^2\right),\; r = y - z",
            convex=False,
            lipschitz=self.scale / 2,
            smooth=1.0,
            minimiser="location of a Cauchy distribution of scale c, of maximum likelihood",
            source="Holland & Welsch 1977",
        )

    def ranges(self) -> Mapping[str, Range]:
        """What c may be."""
        return {"scale": SCALE}

    def value(self, z: Float[Tensor, "..."], y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ, element by element."""
        r = residual(z, y)
        c = scalar(self.scale, r)
        near = torch.log1p((torch.minimum(torch.maximum(r, -c), c) / c).square()) / 2
        size = torch.maximum(r.abs(), c)
        far = torch.log(size / c) + torch.log1p((c / size).square()) / 2
        return c.square() * torch.where(r.abs() <= c, near, far)


@dataclass(frozen=True)
class Tukey(RegressionLoss):
    """Tukey's biweight, c²/6 (1 − (1 − (r/c)²)³) where |r| ≤ c, c²/6 elsewhere, with r = y − z.

    Not as a first loss: an error beyond c has no gradient. Start from the minimiser of a convex one.

    Attributes:
        scale: c > 0, in the labels' unit; the default times the standard deviation loses 5 % of a Gaussian's
            information.

    Example:
        >>> import torch
        >>> Tukey(scale=1.0)(torch.tensor([0.0, 0.0]), torch.tensor([1e-3, -9.0]), reduction="none")
        tensor([5.0000e-07, 1.6667e-01])

    Source:
        Beaton & Tukey, "The fitting of power series, meaning polynomials, illustrated on band-spectroscopic data",
        Technometrics 16, 1974.
    """

    scale: float = 4.685

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        c = self.scale
        return Properties(
            r"\begin{cases}\tfrac{c^2}{6}\left(1 - (1 - (r / c)^2)^3\right) & |r| \le c\\"
            r" \tfrac{c^2}{6} & |r| > c\end{cases},\; r = y - z",
            convex=False,
            lipschitz=16 * c / (25 * 5**0.5),
            smooth=1.0,
            bound=c**2 / 6,
            minimiser="location, deaf to labels farther than c from it",
            source="Beaton & Tukey 1974",
        )

    def ranges(self) -> Mapping[str, Range]:
        """What c may be."""
        return {"scale": SCALE}

    def value(self, z: Float[Tensor, "..."], y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ, element by element."""
        r = residual(z, y)
        c = scalar(self.scale, r)
        square = (torch.minimum(torch.maximum(r, -c), c) / c).square()
        return c.square() / 6 * square * (3 - 3 * square + square.square())
