"""The regression losses once more, as one would write them down: plain NumPy, float64, no care for large numbers."""

import numpy as np
from scipy.special import gammaln

from modelspace.losses import (
    Absolute,
    Cauchy,
    EpsilonInsensitive,
    Gamma,
    Gaussian,
    Huber,
    Laplace,
    LeastSquares,
    LogCosh,
    Pinball,
    Poisson,
    PseudoHuber,
    Tukey,
    Tweedie,
)

OF_RESIDUALS = [
    LeastSquares(),
    Absolute(),
    Huber(0.5),
    Huber(1.0),
    Huber(3.0),
    PseudoHuber(0.5),
    PseudoHuber(1.0),
    PseudoHuber(3.0),
    LogCosh(),
    Pinball(0.1),
    Pinball(0.5),
    Pinball(0.75),
    EpsilonInsensitive(0.0),
    EpsilonInsensitive(0.5),
    Cauchy(0.5),
    Cauchy(),
    Tukey(1.0),
    Tukey(),
]
LOG_MEANS = [
    Poisson(),
    Poisson(full=False),
    Gamma(0.5),
    Gamma(1.0),
    Gamma(4.0),
    Tweedie(1.1),
    Tweedie(1.5),
    Tweedie(1.9),
]
LOCATION_SCALES = [Gaussian(), Laplace()]
CASES = [*OF_RESIDUALS, *LOG_MEANS]

RESIDUALS = {
    "least_squares": lambda r: r**2 / 2,
    "absolute": np.abs,
    "huber": lambda r, delta: np.where(np.abs(r) <= delta, r**2 / 2, delta * (np.abs(r) - delta / 2)),
    "pseudo_huber": lambda r, delta: delta**2 * (np.sqrt(1 + (r / delta) ** 2) - 1),
    "log_cosh": lambda r: np.log(np.cosh(r)),
    "pinball": lambda r, quantile: np.where(r >= 0, quantile * r, (quantile - 1) * r),
    "epsilon_insensitive": lambda r, epsilon: np.maximum(0, np.abs(r) - epsilon),
    "cauchy": lambda r, scale: scale**2 / 2 * np.log(1 + (r / scale) ** 2),
    "tukey": lambda r, scale: np.where(
        np.abs(r) <= scale, scale**2 / 6 * (1 - (1 - (r / scale) ** 2) ** 3), scale**2 / 6
    ),
}


def gamma(z, y, shape):
    mean = np.exp(z)
    density = shape * np.log(shape / mean) + (shape - 1) * np.log(y) - shape * y / mean - gammaln(shape)
    return -density


def tweedie(z, y, power):
    mean = np.exp(z)
    return -y * mean ** (1 - power) / (1 - power) + mean ** (2 - power) / (2 - power)


def formula(loss):
    """ℓ(z, y) of arrays of outputs and labels."""
    given = loss.hyperparameters()
    if loss.name in RESIDUALS:
        return lambda z, y: RESIDUALS[loss.name](y - z, **given)
    if loss.name == "poisson":
        return lambda z, y: np.exp(z) - y * z + (gammaln(y + 1) if loss.full else 0)
    return lambda z, y: {"gamma": gamma, "tweedie": tweedie}[loss.name](z, y, **given)


def gaussian(location, log_variance, y):
    return 0.5 * np.log(2 * np.pi * np.exp(log_variance)) + (y - location) ** 2 / (2 * np.exp(log_variance))


def laplace(location, log_scale, y):
    return np.log(2 * np.exp(log_scale)) + np.abs(y - location) / np.exp(log_scale)


def labels(loss):
    """A few labels that a loss takes."""
    if loss.name == "poisson":
        return (0.0, 1.0, 4.0)
    if loss.name == "gamma":
        return (0.3, 1.0, 4.0)
    if loss.name == "tweedie":
        return (0.0, 0.7, 4.0)
    return (0.0, -0.75, 2.0)
