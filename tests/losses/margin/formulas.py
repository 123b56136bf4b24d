"""The margin losses once more, as one would write them down: plain NumPy, float64, no care for large numbers."""

import numpy as np

from modelspace.losses import (
    Asymmetric,
    BinaryFocal,
    BinaryPoly1,
    Exponential,
    Hinge,
    Logistic,
    ModifiedHuber,
    Perceptron,
    Ramp,
    Savage,
    SquaredHinge,
    SquaredMargin,
    Tangent,
)

CASES = [
    Logistic(),
    Hinge(),
    SquaredHinge(),
    ModifiedHuber(),
    SquaredMargin(),
    Exponential(),
    Perceptron(),
    Ramp(),
    Savage(),
    Tangent(),
    BinaryFocal(0.0),
    BinaryFocal(0.5),
    BinaryFocal(2.0),
    BinaryFocal(5.0),
    BinaryPoly1(0.0),
    BinaryPoly1(0.5),
    BinaryPoly1(1.0),
    BinaryPoly1(4.0),
    Asymmetric(),
    Asymmetric(1.0, 2.0, 0.2),
    Asymmetric(0.0, 0.5, 0.1),
    Asymmetric(0.5, 0.0, 0.05),
    Asymmetric(2.0, 2.0, 0.0),
    Asymmetric(0.0, 0.0, 0.0),
]
# Where a formula has a kink, a jump of its curvature, or a branch.
KINKS = (-1.0, 0.0, 1.0)


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


FORMULAS = {
    "logistic": lambda v: np.log(1 + np.exp(-v)),
    "hinge": lambda v: np.maximum(0, 1 - v),
    "squared_hinge": lambda v: np.maximum(0, 1 - v) ** 2,
    "modified_huber": lambda v: np.where(v >= -1, np.maximum(0, 1 - v) ** 2, -4 * v),
    "squared_margin": lambda v: (1 - v) ** 2,
    "exponential": lambda v: np.exp(-v),
    "perceptron": lambda v: np.maximum(0, -v),
    "ramp": lambda v: np.minimum(1, np.maximum(0, 1 - v)),
    "savage": lambda v: 1 / (1 + np.exp(v)) ** 2,
    "tangent": lambda v: (2 * np.arctan(v) - 1) ** 2,
    "binary_focal": lambda v, gamma: -((1 / (1 + np.exp(v))) ** gamma) * np.log(sigmoid(v)),
    "binary_poly1": lambda v, epsilon: -np.log(sigmoid(v)) + epsilon * (1 - sigmoid(v)),
}


def asymmetric(z, y, gamma_positive, gamma_negative, shift):
    """As the authors' code has it, without the constant that it adds to the logarithm's argument."""
    p = sigmoid(z)
    not_p = np.minimum(1 / (1 + np.exp(z)) + shift, 1)
    positive = (1 / (1 + np.exp(z))) ** gamma_positive * np.log(p)
    return -positive if y > 0 else -((1 - not_p) ** gamma_negative) * np.log(not_p)


def formula(loss):
    """ℓ(z, y) of an array of scores and one sign."""
    given = loss.hyperparameters()
    if loss.name == "asymmetric":
        return lambda z, y: asymmetric(z, y, **given)
    return lambda z, y: FORMULAS[loss.name](y * z, **given)


def is_asymmetric(loss):
    return loss.name == "asymmetric"
