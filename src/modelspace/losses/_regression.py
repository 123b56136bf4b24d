"""Losses of the residual r = y − z, of a real output z and a real label y."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from modelspace.losses._base import Labels, Loss, Properties, Reals, parameter
from modelspace.losses._checks import require_same_shape
from modelspace.losses._numerics import minimum, scalar, wide

Samples = Float[Tensor, "sample"]

_POINTS = 2000


class RegressionLoss(Loss):
    """ℓ(z, y) of a real output z and a real label y of the same shape; labels take the outputs' dtype.

    Values of half-precision outputs are computed in float32 and stay so.

    Example:
        >>> Huber(delta=1)(torch.tensor([0.0, 0.0]), torch.tensor([0.5, -3.0]), reduction="none")
        tensor([0.1250, 2.5000])
    """

    kind = "regression"
    outputs = "real"
    labels = "real"

    def value(self, z: Reals, y: Reals) -> Reals:
        """Compute ℓ, element by element."""
        raise NotImplementedError

    def per_label(self, outputs: Reals, labels: Labels) -> Reals:
        """Compute ℓ of every element, of the outputs' shape."""
        require_same_shape(self.name, outputs, labels)
        return self.value(outputs, labels.to(wide(outputs).dtype))

    def minimiser(self, samples: Samples) -> Reals:
        """Find the output that minimises the mean loss over samples of the label, which are equally likely.

        Args:
            samples: Finite labels of which at least two differ.

        Returns:
            A number. Where no formula is known it is found numerically between the least and the largest sample, to
            about 1e-9 of their distance; one of several where several are as good.
        """
        y = samples.double()
        between = torch.linspace(float(y.min()), float(y.max()), _POINTS, dtype=y.dtype, device=y.device)
        grid = torch.cat([between, y]).sort().values
        return minimum(lambda z: self.value(z.unsqueeze(-1), y).mean(-1), grid).to(samples.dtype)


def _residual(z: Reals, y: Reals) -> Reals:
    """Compute y − z, in float32 at least."""
    return y - wide(z)


@dataclass(frozen=True)
class LeastSquares(RegressionLoss):
    """Half the squared error.

    Half of ``torch.nn.functional.mse_loss``: the negative log-likelihood of a unit Gaussian, but for a constant.
    Source: Gauss, "Theoria motus corporum coelestium", 1809.
    """

    properties = Properties("½ (y − z)²", convex=True, smooth=1, minimiser="mean")

    def value(self, z: Reals, y: Reals) -> Reals:
        return _residual(z, y).square() / 2

    def minimiser(self, samples: Samples) -> Reals:
        return samples.mean()


@dataclass(frozen=True)
class Absolute(RegressionLoss):
    """The absolute error, ``torch.nn.functional.l1_loss``. Its subgradient at 0 is 0.

    Source: Laplace, "Mémoire sur la probabilité des causes par les évènements", 1774.
    """

    properties = Properties("|y − z|", convex=True, lipschitz=1, minimiser="median")

    def value(self, z: Reals, y: Reals) -> Reals:
        return _residual(z, y).abs()

    def minimiser(self, samples: Samples) -> Reals:
        return samples.median()  # of an even number of samples the lower one of the middle two


@dataclass(frozen=True)
class Huber(RegressionLoss):
    """The Huber loss, ``torch.nn.functional.huber_loss``: squares near 0 and straight lines far from it.

    A threshold of 1.345 standard deviations loses 5 % of a Gaussian's information.
    Source: Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35, 1964.
    """

    delta: float = parameter(1.0, "threshold: δ, in the labels' unit", above=0)

    properties = Properties(
        "½ r² if |r| ≤ δ; δ (|r| − ½ δ) if |r| > δ, r = y − z",
        convex=True,
        lipschitz=lambda self: self.delta,
        smooth=1,
        minimiser="mean of the labels, those beyond δ drawn to δ",
    )

    def value(self, z: Reals, y: Reals) -> Reals:
        r = _residual(z, y)
        delta = scalar(self.delta, r)
        near = torch.minimum(torch.maximum(r, -delta), delta)
        return near * (r - near / 2)


@dataclass(frozen=True)
class PseudoHuber(RegressionLoss):
    """The pseudo-Huber loss: Huber's with all derivatives.

    Computed as δ r² / (δ + √(δ² + r²)), which does not cancel near 0.
    Source: Charbonnier, Blanc-Féraud, Aubert, Barlaud, "Deterministic edge-preserving regularization in computed
    imaging", IEEE Trans. Image Processing 6, 1997.
    """

    delta: float = parameter(1.0, "threshold: δ, in the labels' unit", above=0)

    properties = Properties(
        "δ² (√(1 + (r/δ)²) − 1), r = y − z",
        convex=True,
        lipschitz=lambda self: self.delta,
        smooth=1,
        minimiser="z: E r / √(1 + (r/δ)²) = 0",
    )

    def value(self, z: Reals, y: Reals) -> Reals:
        r = _residual(z, y)
        delta = scalar(self.delta, r)
        return delta * r * (r / (delta + torch.hypot(delta, r)))


@dataclass(frozen=True)
class LogCosh(RegressionLoss):
    """The logarithm of the hyperbolic cosine: ½ r² near 0, |r| − log 2 far from it.

    Computed without cancellation near 0 and without overflow far from it.
    Source: Green, "Bayesian reconstructions from emission tomography data using a modified EM algorithm", IEEE
    Trans. Medical Imaging 9, 1990.
    """

    properties = Properties(
        "log cosh(y − z)",
        convex=True,
        lipschitz=1,
        smooth=1,
        minimiser="z: E tanh(y − z) = 0",
    )

    def value(self, z: Reals, y: Reals) -> Reals:
        r = _residual(z, y)
        size = r.abs()
        near = torch.log1p(2 * torch.sinh(r.clamp(-1, 1) / 2).square())
        return torch.where(size <= 1, near, size + torch.log1p(torch.exp(-2 * size)) - math.log(2))


@dataclass(frozen=True)
class Pinball(RegressionLoss):
    """The pinball loss: its minimiser is the τ-quantile of the labels. At τ = ½ it is half the absolute error.

    Source: Koenker & Bassett, "Regression quantiles", Econometrica 46, 1978.
    """

    quantile: float = parameter(0.5, "quantile level: τ", above=0, below=1)

    properties = Properties(
        "max(τ r, (τ − 1) r), r = y − z",
        convex=True,
        lipschitz=lambda self: max(self.quantile, 1 - self.quantile),
        minimiser="quantile",
    )

    def value(self, z: Reals, y: Reals) -> Reals:
        r = _residual(z, y)
        return torch.maximum(self.quantile * r, (self.quantile - 1) * r)

    def minimiser(self, samples: Samples) -> Reals:
        return samples.sort().values[math.ceil(self.quantile * len(samples)) - 1]


@dataclass(frozen=True)
class EpsilonInsensitive(RegressionLoss):
    """The ε-insensitive loss of support vector regression.

    Source: Drucker, Burges, Kaufman, Smola, Vapnik, "Support vector regression machines", NeurIPS 1996.
    """

    epsilon: float = parameter(
        0.1, "loss parameter: the error that costs nothing, in the labels' unit", at_least=0
    )

    properties = Properties(
        "max(0, |y − z| − ε)",
        convex=True,
        lipschitz=1,
        minimiser="centre of an interval of length 2ε that as many labels exceed as fall short of",
    )

    def value(self, z: Reals, y: Reals) -> Reals:
        return (_residual(z, y).abs() - self.epsilon).clamp(min=0)


_SCALE = "scale: c, in the labels' unit; the default, in standard deviations, loses 5 % of a Gaussian's information"


@dataclass(frozen=True)
class Cauchy(RegressionLoss):
    """The Cauchy or Lorentzian loss, whose slope falls again where the error is large, so that outliers fade out.

    Source: Holland & Welsch, "Robust regression using iteratively reweighted least-squares", Comm. Statist. 6,
    1977.
    """

    scale: float = parameter(2.385, _SCALE, above=0)

    properties = Properties(
        "½ c² log(1 + (r/c)²), r = y − z",
        convex=False,
        lipschitz=lambda self: self.scale / 2,
        smooth=1,
        minimiser="location of a Cauchy distribution of scale c, of maximum likelihood",
    )

    def value(self, z: Reals, y: Reals) -> Reals:
        r = _residual(z, y)
        c = scalar(self.scale, r)
        inside = r.abs() <= c  # not min and max, which halve the gradient where the two are equal
        near = torch.log1p((torch.where(inside, r, 0) / c).square()) / 2
        size = torch.where(inside, c, r.abs())
        far = torch.log(size / c) + torch.log1p((c / size).square()) / 2
        return c.square() * torch.where(inside, near, far)


@dataclass(frozen=True)
class Tukey(RegressionLoss):
    """Tukey's biweight, which is level beyond |r| = c.

    Not as a first loss: an error beyond c has no gradient. Start from the minimiser of a convex one.
    Source: Beaton & Tukey, "The fitting of power series, meaning polynomials, illustrated on band-spectroscopic
    data", Technometrics 16, 1974.
    """

    scale: float = parameter(4.685, _SCALE, above=0)

    properties = Properties(
        "(c²/6) (1 − (1 − (r/c)²)³) if |r| ≤ c; c²/6 if |r| > c, r = y − z",
        convex=False,
        lipschitz=lambda self: 16 * self.scale / (25 * 5**0.5),
        smooth=1,
        bound=lambda self: self.scale**2 / 6,
        minimiser="location, deaf to labels farther than c from it",
    )

    def value(self, z: Reals, y: Reals) -> Reals:
        r = _residual(z, y)
        c = scalar(self.scale, r)
        square = (torch.minimum(torch.maximum(r, -c), c) / c).square()
        return c.square() / 6 * square * (3 - 3 * square + square.square())
