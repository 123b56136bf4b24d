"""Negative log-likelihoods of a positive mean whose logarithm is the output: Poisson, gamma, Tweedie."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from modelspace.hyperparameters import Range
from modelspace.losses.contracts import Contract, counts, not_negative, positive
from modelspace.losses.finite import exponential, scalar, wide
from modelspace.losses.properties import Properties
from modelspace.losses.regression.base import RegressionLoss

_NOTES = (
    "exponentials go on linearly beyond an exponent of 64 (8 in float16, 512 in float64), those that labels multiply "
    "beyond half of it"
)


class LogMeanLoss(RegressionLoss):
    """A loss whose outputs are logarithms of means: no exponential at the model's end; its minimiser is log E y."""

    outputs = "log-rate"

    def minimiser(self, samples: Float[Tensor, "sample"]) -> Float[Tensor, ""]:
        """The logarithm of the mean."""
        return samples.mean().log()


@dataclass(frozen=True)
class Poisson(LogMeanLoss):
    """The Poisson distribution's negative log-likelihood, e^z − y z + log y!, z the logarithm of the rate.

    ``torch.nn.functional.poisson_nll_loss``, whose own ``full`` takes Stirling's approximation of log y!.

    Attributes:
        full: Whether log y!, which no gradient sees, is there.

    Example:
        >>> import torch
        >>> Poisson()(torch.tensor([0.0, 0.0]), torch.tensor([0, 3]), reduction="none")
        tensor([1.0000, 2.7918])

    Source:
        Nelder & Wedderburn, "Generalized linear models", J. R. Stat. Soc. A 135, 1972.
    """

    labels = "count"
    full: bool = True

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        last = r" + \log y!" if self.full else ""
        return Properties(
            f"e^z - y z{last}",
            convex=True,
            minimiser="logarithm of the mean",
            source="Nelder & Wedderburn 1972",
            notes=_NOTES,
        )

    @property
    def contract(self) -> Contract:
        """Labels of at least 0."""
        return counts

    def __str__(self) -> str:
        return self.name if self.full else f"{self.name}(full=False)"

    def value(self, z: Float[Tensor, "..."], y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ, element by element."""
        found = exponential(wide(z), z.dtype) - y * wide(z)
        return found + torch.lgamma(y + 1) if self.full else found


@dataclass(frozen=True)
class Gamma(LogMeanLoss):
    """The gamma distribution's negative log-likelihood of shape k and mean e^z.

    k (z + y e^{−z} − log k) − (k − 1) log y + log Γ(k); k scales the gradient and no more.

    Attributes:
        shape: k > 0; the squared coefficient of variation is 1/k, and k = 1 is the exponential distribution.

    Example:
        >>> import torch
        >>> Gamma()(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 2.0]), reduction="none")
        tensor([1., 2.])

    Source:
        Nelder & Wedderburn, "Generalized linear models", J. R. Stat. Soc. A 135, 1972.
    """

    labels = "positive"
    shape: float = 1.0

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"k (z + y e^{-z} - \log k) - (k - 1) \log y + \log \Gamma(k)",
            convex=True,
            minimiser="logarithm of the mean",
            source="Nelder & Wedderburn 1972",
            notes=_NOTES,
        )

    @property
    def contract(self) -> Contract:
        """Labels above 0."""
        return positive

    def ranges(self) -> Mapping[str, Range]:
        """What k may be."""
        return {"shape": Range("shape", "a positive number", 0.0, low_included=False)}

    def value(self, z: Float[Tensor, "..."], y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ, element by element."""
        k = scalar(self.shape, y)
        own = torch.lgamma(k) - k * torch.log(k) - (k - 1) * torch.log(y)
        return k * (wide(z) + y * exponential(-wide(z), z.dtype, 0.5)) + own


@dataclass(frozen=True)
class Tweedie(LogMeanLoss):
    """Tweedie's loss of power p and mean e^z, y e^{(1 − p) z} / (p − 1) + e^{(2 − p) z} / (2 − p).

    For amounts that are often exactly 0, such as claims or rain. The negative log-likelihood of a compound Poisson
    sum of gamma variables at unit dispersion, but for what labels alone decide.

    Attributes:
        power: p in (1, 2), the variance's exponent in the mean: towards 1 Poisson's, towards 2 gamma's.

    Example:
        >>> import torch
        >>> Tweedie(power=1.5)(torch.tensor([0.0, 0.0]), torch.tensor([0.0, 1.0]), reduction="none")
        tensor([2., 4.])

    Source:
        Jørgensen, "Exponential dispersion models", J. R. Stat. Soc. B 49, 1987.
    """

    labels = "positive"
    power: float = 1.5

    @property
    def properties(self) -> Properties:
        """See ``Properties``."""
        return Properties(
            r"\frac{y e^{(1 - p) z}}{p - 1} + \frac{e^{(2 - p) z}}{2 - p}",
            convex=True,
            minimiser="logarithm of the mean",
            source="Jørgensen 1987",
            notes=_NOTES,
        )

    @property
    def contract(self) -> Contract:
        """Labels of at least 0."""
        return not_negative

    def ranges(self) -> Mapping[str, Range]:
        """What p may be."""
        return {"power": Range("variance power", "above 1 and below 2", 1.0, 2.0, low_included=False)}

    def value(self, z: Float[Tensor, "..."], y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ℓ, element by element."""
        low, high = self.power - 1, 2 - self.power
        rare, often = exponential(-low * wide(z), z.dtype, 0.5), exponential(high * wide(z), z.dtype)
        return y * rare / low + often / high
