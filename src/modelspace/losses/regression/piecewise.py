"""Piecewise linear losses: absolute error, pinball, ε-insensitive."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from modelspace.hyperparameters import Range
from modelspace.losses.parameters import EPSILON
from modelspace.losses.properties import Properties
from modelspace.losses.regression.base import RegressionLoss, residual


@dataclass(frozen=True)
class Absolute(RegressionLoss):
    """The absolute error, |y − z|: ``torch.nn.functional.l1_loss``. Its subgradient at 0 is 0.

    Example:
        >>> import torch
        >>> Absolute()(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
        tensor(1.)

    Source:
        Laplace, "Mémoire sur la probabilité des causes par les évènements", 1774.
    """

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties("|y - z|", convex=True, lipschitz=1.0, minimiser="median", source="Laplace 1774")

    def value(self, z: Float[Tensor, "..."], y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ, element by element."""
        return residual(z, y).abs()

    def minimiser(self, samples: Float[Tensor, "sample"]) -> Float[Tensor, ""]:
        """The median; of an even number of samples the lower one of the middle two."""
        return samples.median()


@dataclass(frozen=True)
class Pinball(RegressionLoss):
    """The pinball loss, max(τ r, (τ − 1) r) with r = y − z: its minimiser is the τ-quantile of the labels.

    Attributes:
        quantile: τ in (0, 1); at ½ it is half the absolute error.

    Example:
        >>> import torch
        >>> Pinball(quantile=0.9)(torch.tensor([0.0, 0.0]), torch.tensor([1.0, -1.0]), reduction="none")
        tensor([0.9000, 0.1000])

    Source:
        Koenker & Bassett, "Regression quantiles", Econometrica 46, 1978.
    """

    quantile: float = 0.5

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\max(\tau r,\, (\tau - 1) r),\; r = y - z",
            convex=True,
            lipschitz=max(self.quantile, 1 - self.quantile),
            minimiser="quantile",
            source="Koenker & Bassett 1978",
        )

    def ranges(self) -> Mapping[str, Range]:
        """What τ may be."""
        return {
            "quantile": Range("quantile level", "above 0 and below 1", 0.0, 1.0, low_included=False),
        }

    def value(self, z: Float[Tensor, "..."], y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ, element by element."""
        r = residual(z, y)
        return torch.maximum(self.quantile * r, (self.quantile - 1) * r)

    def minimiser(self, samples: Float[Tensor, "sample"]) -> Float[Tensor, ""]:
        """The τ-quantile, a sample itself."""
        place = math.ceil(self.quantile * len(samples)) - 1
        return samples.sort().values[place]


@dataclass(frozen=True)
class EpsilonInsensitive(RegressionLoss):
    """The ε-insensitive loss, max(0, |y − z| − ε), of support vector regression.

    Attributes:
        epsilon: ε ≥ 0, the error that costs nothing, in the labels' unit.

    Example:
        >>> import torch
        >>> EpsilonInsensitive(epsilon=0.5)(torch.tensor([0.0, 0.0]), torch.tensor([0.25, -2.0]), reduction="none")
        tensor([0.0000, 1.5000])

    Source:
        Drucker, Burges, Kaufman, Smola, Vapnik, "Support vector regression machines", NeurIPS 1996.
    """

    epsilon: float = 0.1

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\max(0,\, |y - z| - \varepsilon)",
            convex=True,
            lipschitz=1.0,
            minimiser="centre of an interval of length 2ε that as many labels exceed as fall short of",
            source="Drucker et al. 1996",
        )

    def ranges(self) -> Mapping[str, Range]:
        """What ε may be."""
        return {"epsilon": EPSILON}

    def value(self, z: Float[Tensor, "..."], y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ, element by element."""
        return (residual(z, y).abs() - self.epsilon).clamp(min=0)
