"""Negative log-likelihoods: of a location and a scale, and of a positive mean whose logarithm is the output."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.losses._base import Labels, Loss, Properties, Reals, parameter
from modelspace.losses._checks import counts, received, refuse
from modelspace.losses._numerics import bearable, exponential, scalar, wide
from modelspace.losses._regression import RegressionLoss, Samples


class LocationScaleLoss(Loss):
    """−log p(y | location, log-scale) of outputs ``[N, 2, …]`` and labels ``[N, …]``.

    Dimension 1 holds the location and then the logarithm of a scale, as the model gives them: nothing is to be made
    positive. Values of half-precision outputs are computed in float32 and stay so.

    Example:
        >>> Gaussian()(torch.tensor([[0.0, 0.0]]), torch.tensor([1.0]))
        tensor(1.4189)
    """

    kind = "regression"
    outputs = "real"
    labels = "real"

    def value(self, location: Reals, log_scale: Reals, y: Reals) -> Reals:
        """Compute ℓ of every label."""
        raise NotImplementedError

    def per_label(self, outputs: Reals, labels: Labels) -> Reals:
        """Compute ℓ of every label, of the labels' shape."""
        if outputs.ndim < 2 or outputs.shape[1] != 2 or outputs[:, 0].shape != labels.shape:
            raise ModelspaceError(
                f"{received(self.name, outputs, labels)}: it expects outputs [N, 2, ...], a location and a log-scale "
                "for each of labels [N, ...]; give the model two outputs for each label, or use 'least_squares' or "
                "'absolute' with one"
            )
        return self.value(outputs[:, 0], outputs[:, 1], labels.to(wide(outputs).dtype))

    def labels_shape(self, outputs: tuple[int, ...]) -> tuple[int, ...]:
        """Leave out the dimension of location and scale."""
        return (outputs[0], *outputs[2:])

    def minimiser(self, samples: Samples) -> Float[Tensor, "2"]:
        """Find the location and the log-scale that minimise the mean loss over samples of the label.

        Args:
            samples: Labels of which at least two differ, equally likely.
        """
        raise NotImplementedError


_TWO_OUTPUTS = (
    "outputs [N, 2, ...]: location and log-scale. Below a log-scale of -32 (-4 in float16, -256 in float64) its "
    "reciprocal goes on linearly; in float16 the scaled error grows like a logarithm beyond 256"
)


@dataclass(frozen=True)
class Gaussian(LocationScaleLoss):
    """The Gaussian's negative log-likelihood, with outputs μ and s = log σ².

    ``torch.nn.functional.gaussian_nll_loss(μ, y, e^s, full=True)`` without its floor under the variance. Not from a
    cold start on hard data: a large variance hides a bad mean (Seitzer et al. 2022); train the mean first.
    Source: Nix & Weigend, "Estimating the mean and variance of the target probability distribution", ICNN 1994.
    """

    properties = Properties(
        "½ (s + (y − μ)² e^(−s) + log 2π)",
        convex=False,
        minimiser="mean, logarithm of the variance",
        notes=_TWO_OUTPUTS,
    )

    def value(self, location: Reals, log_scale: Reals, y: Reals) -> Reals:
        s = wide(log_scale)
        scaled = (y - wide(location)).square() * exponential(-s, log_scale.dtype, 0.5)
        return (s + bearable(scaled, log_scale.dtype) + math.log(2 * math.pi)) / 2

    def minimiser(self, samples: Samples) -> Float[Tensor, "2"]:
        return torch.stack([samples.mean(), samples.var(correction=0).log()])


@dataclass(frozen=True)
class Laplace(LocationScaleLoss):
    """The Laplace distribution's negative log-likelihood, with outputs μ and s = log b.

    Source: Laplace, "Mémoire sur la probabilité des causes par les évènements", 1774.
    """

    properties = Properties(
        "s + |y − μ| e^(−s) + log 2",
        convex=False,
        minimiser="median, logarithm of the mean absolute deviation from it",
        notes=_TWO_OUTPUTS,
    )

    def value(self, location: Reals, log_scale: Reals, y: Reals) -> Reals:
        s = wide(log_scale)
        scaled = (y - wide(location)).abs() * exponential(-s, log_scale.dtype, 0.5)
        return s + bearable(scaled, log_scale.dtype) + math.log(2)

    def minimiser(self, samples: Samples) -> Float[Tensor, "2"]:
        median = samples.median()
        return torch.stack([median, (samples - median).abs().mean().log()])


class LogMeanLoss(RegressionLoss):
    """A loss whose outputs are logarithms of means: no exponential at the model's end; its minimiser is log E y.

    Example:
        >>> Poisson()(torch.tensor([0.0, 0.0]), torch.tensor([0, 3]), reduction="none")
        tensor([1.0000, 2.7918])
    """

    outputs = "log-rate"

    def minimiser(self, samples: Samples) -> Reals:
        """Compute the logarithm of the mean."""
        return samples.mean().log()


_LINEAR = (
    "exponentials go on linearly beyond an exponent of 64 (8 in float16, 512 in float64), those that labels multiply "
    "beyond half of it"
)


@dataclass(frozen=True)
class Poisson(LogMeanLoss):
    """The Poisson distribution's negative log-likelihood, z the logarithm of the rate.

    ``torch.nn.functional.poisson_nll_loss``, whose own ``full`` takes Stirling's approximation of log y!.

    Attributes:
        full: Whether log y!, which no gradient sees, is there.

    Source: Nelder & Wedderburn, "Generalized linear models", J. R. Stat. Soc. A 135, 1972.
    """

    labels = "count"
    full: bool = True

    properties = Properties(
        lambda self: f"e^z − y z{' + log y!' if self.full else ''}",
        convex=True,
        minimiser="logarithm of the mean",
        notes=_LINEAR,
    )

    def __str__(self) -> str:
        return self.name if self.full else f"{self.name}(full=False)"

    def check_values(self, outputs: Labels, labels: Labels) -> None:
        counts(self.name, outputs, labels)

    def value(self, z: Reals, y: Reals) -> Reals:
        own = torch.lgamma(y + 1) if self.full else 0
        return exponential(wide(z), z.dtype) - y * wide(z) + own


@dataclass(frozen=True)
class Gamma(LogMeanLoss):
    """The gamma distribution's negative log-likelihood of shape k and mean e^z; k scales the gradient and no more.

    Source: Nelder & Wedderburn, "Generalized linear models", J. R. Stat. Soc. A 135, 1972.
    """

    labels = "positive"
    shape: float = parameter(
        1.0, "shape: k; the squared coefficient of variation is 1/k, and 1 is the exponential one", above=0
    )

    properties = Properties(
        "k (z + y e^(−z) − log k) − (k − 1) log y + log Γ(k)",
        convex=True,
        minimiser="logarithm of the mean",
        notes=_LINEAR,
    )

    def check_values(self, outputs: Labels, labels: Labels) -> None:
        fix = "'tweedie' allows zeros, 'least_squares' any number"
        refuse(self.name, "labels above 0", labels, ~(labels > 0), "are not", fix)

    def value(self, z: Reals, y: Reals) -> Reals:
        k = scalar(self.shape, y)
        own = torch.lgamma(k) - k * torch.log(k) - (k - 1) * torch.log(y)
        return k * (wide(z) + y * exponential(-wide(z), z.dtype, 0.5)) + own


@dataclass(frozen=True)
class Tweedie(LogMeanLoss):
    """Tweedie's loss of power p and mean e^z, for amounts that are often exactly 0, such as claims or rain.

    The negative log-likelihood of a compound Poisson sum of gamma variables at unit dispersion, but for what labels
    alone decide.
    Source: Jørgensen, "Exponential dispersion models", J. R. Stat. Soc. B 49, 1987.
    """

    labels = "positive"
    power: float = parameter(
        1.5,
        "variance power: p, the variance's exponent in the mean, towards 1 Poisson's, towards 2 gamma's",
        above=1,
        below=2,
    )

    properties = Properties(
        "y e^((1 − p) z)/(p − 1) + e^((2 − p) z)/(2 − p)",
        convex=True,
        minimiser="logarithm of the mean",
        notes=_LINEAR,
    )

    def check_values(self, outputs: Labels, labels: Labels) -> None:
        fix = "'least_squares' or 'huber' allow any number"
        refuse(self.name, "labels of at least 0", labels, ~(labels >= 0), "are not", fix)

    def value(self, z: Reals, y: Reals) -> Reals:
        low, high = self.power - 1, 2 - self.power
        rare, often = exponential(-low * wide(z), z.dtype, 0.5), exponential(high * wide(z), z.dtype)
        return y * rare / low + often / high
