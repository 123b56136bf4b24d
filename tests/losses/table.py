"""One row a loss: the formula once more, as one would write it down, and what it is to be tried on.

Formulas are plain NumPy or Python in float64, with no care for large numbers. With a row, every test of this folder
proves what the loss says of itself.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import torch
from scipy.special import gammaln
from torch import Tensor

from modelspace import losses as ms


@dataclass(frozen=True)
class Case:
    """A loss, its formula and a batch, and single values of it as functions of all their outputs.

    Attributes:
        loss: The loss.
        formula: The values of a batch, from arrays of outputs and labels; None for what does not count.
        shape: The outputs' shape of a batch.
        draw: Draws the batch's labels.
        near: Labels, and the outputs' shape, of a single value: what constants are searched over.
        far: The same of more classes or places, where a constant is to grow without limit with them.
        kink: Outputs, labels and a step over a kink there.
        form: Which form of the loss it is, where there are two.
    """

    loss: Any
    formula: Callable[..., Any]
    shape: tuple[int, ...]
    draw: Callable[[], Tensor]
    near: Sequence[tuple[Tensor, tuple[int, ...]]] = ()
    far: Sequence[tuple[Tensor, tuple[int, ...]]] = ()
    kink: tuple[Tensor, Tensor, Tensor] | None = None
    form: str = ""

    def __str__(self) -> str:
        return f"{self.loss}{self.form}"

    def batch(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        outputs, labels = 2 * torch.randn(self.shape, dtype=torch.float64), self.draw()
        if self.loss.outputs == "probability":
            outputs = outputs.sigmoid()
        return outputs.to(dtype), labels.to(dtype) if labels.dtype.is_floating_point else labels

    def exact(self, outputs: Tensor, labels: Tensor) -> list[float | None]:
        """The values of all labels by the formula, flat."""
        return (
            np.array(self.formula(self.loss, outputs.numpy(), labels.numpy()), dtype=object).ravel().tolist()
        )


def single(loss, labels):
    """The first value of a batch as a function of all outputs."""
    return lambda z: loss(z, labels, reduction="none").flatten()[0]


def at(*values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype)


def whole(*values):
    return torch.tensor(values)


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


def softmax(z):
    e = np.exp(z - z.max(0))
    return e / e.sum(0)


# Of the margin.
MARGIN = {
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
    "binary_focal": lambda v, gamma: -(sigmoid(-v) ** gamma) * np.log(sigmoid(v)),
    "binary_poly1": lambda v, epsilon: -np.log(sigmoid(v)) + epsilon * (1 - sigmoid(v)),
}


def asymmetric(z, y, gamma_positive, gamma_negative, shift):
    """As the authors' code has it, without the constant that it adds to the logarithm's argument."""
    not_p = np.minimum(sigmoid(-z) + shift, 1)
    positive = sigmoid(-z) ** gamma_positive * np.log(sigmoid(z))
    return -np.where(y > 0, positive, (1 - not_p) ** gamma_negative * np.log(not_p))


def of_margin(loss, z, y):
    own = loss.hyperparameters()
    return asymmetric(z, y, **own) if loss.name == "asymmetric" else MARGIN[loss.name](y * z, **own)


def against_the_rest(loss, z, y):
    own = np.arange(z.shape[1]).reshape(-1, 1) == y[:, None]
    return of_margin(loss, z, np.where(own, 1, -1)).sum(1)


def margin(loss, kink=None):
    signs, step = whole(1, -1), at(1e-3)
    one = [(sign[None], (1,)) for sign in signs]
    edge = None if kink is None else (at(kink), whole(-1 if loss.name == "asymmetric" else 1), step)
    yield Case(loss, of_margin, (12,), lambda: signs.repeat(6), one, kink=edge)
    yield Case(loss, against_the_rest, (4, 3, 2), lambda: torch.randint(3, (4, 2)), form=" of classes")


# Of classes.
def rivals(z, y):
    return np.delete(z, y)


def smoothed(loss, z, y):
    target = loss.smoothing / len(z) + (1 - loss.smoothing) * (np.arange(len(z)) == y)
    return -(target * np.log(softmax(z))).sum()


def symmetric(loss, z, y):
    p = softmax(z)
    reverse = -sum(p[c] * (0 if c == y else -4) for c in range(len(z)))
    return -loss.forward_weight * np.log(p[y]) + loss.reverse_weight * reverse


CLASSES = {
    ms.CrossEntropy: lambda loss, z, y: -np.log(softmax(z)[y]),
    ms.LabelSmoothing: smoothed,
    ms.Focal: lambda loss, z, y: -((1 - softmax(z)[y]) ** loss.gamma) * np.log(softmax(z)[y]),
    ms.Poly1: lambda loss, z, y: -np.log(softmax(z)[y]) + loss.epsilon * (1 - softmax(z)[y]),
    ms.GeneralisedCrossEntropy: lambda loss, z, y: (1 - softmax(z)[y] ** loss.q) / loss.q,
    ms.SymmetricCrossEntropy: symmetric,
    ms.Brier: lambda loss, z, y: ((softmax(z) - (np.arange(len(z)) == y)) ** 2).sum(),
    ms.CrammerSinger: lambda loss, z, y: max(0, 1 + rivals(z, y).max() - z[y]),
    ms.WestonWatkins: lambda loss, z, y: np.maximum(0, 1 + rivals(z, y) - z[y]).sum(),
    ms.LeeLinWahba: lambda loss, z, y: np.maximum(0, rivals(z, y) - z.mean() + 1 / (len(z) - 1)).sum(),
}


def of_classes(loss, z, y):
    """Place by place; what is left out costs 0."""
    value = CLASSES[type(loss)]
    flat = np.moveaxis(z, 1, -1).reshape(-1, z.shape[1])
    return [
        value(loss, row, label) if label != -100 else 0.0 for row, label in zip(flat, y.ravel(), strict=True)
    ]


def multiclass(loss, far=False, kink=None):
    many = [(whole(0), (1, 60))] if far else ()
    more = [(whole(0), (1, 400))] if isinstance(loss, ms.LabelSmoothing) else []  # its constant is a limit
    near = [(whole(0), (1, classes)) for classes in (2, 3, 4)] + more
    edge = None if kink is None else (at(kink), whole(0), at([1e-3, 0, 0]))
    return Case(loss, of_classes, (5, 3, 2), lambda: torch.randint(3, (5, 2)), near, many, edge)


# Of a residual, and likelihoods.
RESIDUAL = {
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


def of_residual(loss, z, y):
    return RESIDUAL[loss.name](y - z, **loss.hyperparameters())


def regression(loss, kink=None):
    labels, step = at(0.0, -0.75, 2.0), at(1e-3)
    edge = None if kink is None else (at(kink), at(0.0), step)
    return Case(
        loss, of_residual, (12,), lambda: labels.repeat(4), [(at(y), (1,)) for y in labels], kink=edge
    )


def poisson(loss, z, y):
    return np.exp(z) - y * z + (gammaln(y + 1) if loss.full else 0)


def gamma(loss, z, y):
    mean, k = np.exp(z), loss.shape
    return -(k * np.log(k / mean) + (k - 1) * np.log(y) - k * y / mean - gammaln(k))


def tweedie(loss, z, y):
    mean, p = np.exp(z), loss.power
    return -y * mean ** (1 - p) / (1 - p) + mean ** (2 - p) / (2 - p)


def likelihood(loss, formula, *labels):
    one = [(at(y), (1,)) for y in labels]
    return Case(loss, formula, (12,), lambda: at(*labels).repeat(4), one)


def gaussian(loss, z, y):
    return 0.5 * np.log(2 * np.pi * np.exp(z[:, 1])) + (y - z[:, 0]) ** 2 / (2 * np.exp(z[:, 1]))


def laplace(loss, z, y):
    return np.log(2 * np.exp(z[:, 1])) + np.abs(y - z[:, 0]) / np.exp(z[:, 1])


def two_outputs(loss, formula, kink=None):
    labels = lambda: torch.randn(4, 3, dtype=torch.float64)  # noqa: E731
    return Case(loss, formula, (4, 2, 3), labels, [(at(0.5), (1, 2))], kink=kink)


# Of regions.
def overlap(loss, p, y):
    hit = (p * y).sum()
    if isinstance(loss, ms.Dice):
        return 1 - (2 * hit + loss.smooth) / (p.sum() + y.sum() + loss.smooth)
    beyond, missed = (p * (1 - y)).sum(), ((1 - p) * y).sum()
    value = 1 - (hit + loss.smooth) / (hit + loss.fp_weight * beyond + loss.fn_weight * missed + loss.smooth)
    return value**loss.region_exponent if isinstance(loss, ms.FocalTversky) else value


def masks(loss, z, y):
    return [overlap(loss, sigmoid(a), b) for a, b in zip(z, y, strict=True)]


def places(z, y):
    """Of a sample: the softmax and the class of every place that counts."""
    flat, labels = z.reshape(len(z), -1), y.ravel()
    return softmax(flat)[:, labels != -100], labels[labels != -100]


def maps(loss, z, y):
    def value(p, k):
        each = [overlap(loss, p[c], (k == c).astype(float)) for c in range(len(p))]
        return np.mean(each) if len(k) else None

    return [value(*places(a, b)) for a, b in zip(z, y, strict=True)]


def jaccard_loss(wrong, region):
    """One less the Jaccard index of a region and what is found of it where the places of a set are wrong."""
    found = region ^ wrong
    return 1 - len(found & region) / len(found | region) if found | region else 0.0


def lovasz(errors, region):
    """The Lovász extension of a submodular function is the greatest over all orders of its greedy sums."""

    def along(order):
        losses = [jaccard_loss(set(order[:i]), region) for i in range(len(order) + 1)]
        return sum(
            errors[i] * (after - before) for i, after, before in zip(order, losses[1:], losses, strict=False)
        )

    return max(along(order) for order in permutations(range(len(errors))))


def region(truth):
    return {i for i, inside in enumerate(truth) if inside}


def lovasz_hinge(loss, z, y):
    rows = [(a.ravel(), b.ravel()) for a, b in zip(z, y, strict=True)]
    return [lovasz(np.maximum(0, np.where(b == 1, 1 - a, 1 + a)), region(b == 1)) for a, b in rows]


def lovasz_softmax(loss, z, y):
    def value(p, k):
        each = [lovasz(np.abs((k == c) - p[c]), region(k == c)) for c in sorted(set(k.tolist()))]
        return sum(each) / len(each) if each else None

    return [value(*places(a, b)) for a, b in zip(z, y, strict=True)]


def sets(*shape):
    labels = torch.randint(2, shape)
    labels[0], labels[1] = 0, 1  # nothing and everything
    return labels


def class_map():
    labels = torch.randint(3, (4, 2, 2))
    labels[1, 0, 1] = labels[2] = -100
    return labels


def regions(loss):
    halves = [(torch.arange(n)[None] % 2, (1, n)) for n in (1, 2, 6)]
    many = [(y, (1, 100_000)) for y in (torch.ones(1, 100_000).long(), torch.zeros(1, 100_000).long())]
    yield Case(loss, masks, (5, 2, 2), lambda: sets(5, 2, 2), halves, many, form=" of masks")
    yield Case(loss, maps, (4, 3, 2, 2), class_map, form=" of classes")


# Of sets, ranks, embeddings, teachers.
def binary(loss, z, y):
    return -(y * np.log(z) + (1 - y) * np.log(1 - z))


def multilabel(loss, z, y):
    return np.log(1 + np.exp(np.where(y == 1, -z, z)))


def ranking(loss, z, y):
    def value(a, has):
        wrong = [np.exp(a[i] - a[j]) for i in range(len(a)) for j in range(len(a)) if not has[i] and has[j]]
        return np.log(1 + sum(wrong))

    return [value(a, b) for a, b in zip(z, y, strict=True)]


def coral(loss, z, y):
    above = y[:, None] > np.arange(z.shape[1])
    return -np.log(np.where(above, sigmoid(z), 1 - sigmoid(z))).sum(1)


def distillation(loss, z, y):
    def value(student, teacher):
        p, q = softmax(student / loss.temperature), softmax(teacher / loss.temperature)
        return loss.temperature**2 * (q * np.log(q / p)).sum()

    return [value(a, b) for a, b in zip(z, y, strict=True)]


def anchors(value):
    """The values of all anchors, from one's index, partners and others; None for those without a partner."""

    def formula(loss, z, y):
        found = []
        for i in range(len(z)):
            others = [k for k in range(len(z)) if k != i]
            partners = [k for k in others if y[k] == y[i]]
            found.append(value(loss, z, i, partners, others) if partners else None)
        return found

    return formula


def info_nce(loss, z, i, partners, others):
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    weight = np.exp(unit @ unit[i] / loss.temperature)
    return np.mean([-np.log(weight[j] / weight[others].sum()) for j in partners])


def triplet(loss, z, i, partners, others):
    distance = np.linalg.norm(z - z[i], axis=1)
    strangers = [distance[k] for k in others if k not in partners]
    return max(0, loss.margin + max(distance[partners]) - min(strangers, default=math.inf))


def embedding(loss, value, kink=None):
    near = [(whole(0, 0, 1), (3, 2)), (whole(0, 0, 1, 1), (4, 2))]
    return Case(loss, anchors(value), (7, 3), lambda: whole(0, 2, 1, 0, 2, 2, 7), near, kink=kink)


def teachers():
    return 2 * torch.randn(5, 4, dtype=torch.float64)


_HALVES = [
    (m, (1, n))
    for n in (1, 3)
    for m in (torch.ones(1, n).long(), torch.zeros(1, n).long(), whole([1, 0, 1])[:, :n])
]
_TAUGHT = [(at([3.0, 0.0, -2.0]), (1, 3)), (at([200.0, 0.0, 0.0]), (1, 3))]
_SETS = [whole([1, 0]), whole([1, 1, 0]), whole([1, 0, 1, 0]), whole([1, 0, 0, 0])]
_SWAP = (
    at([[1.0, -1.0], [0.0, 0.0]]),
    whole([0, 1]),
    at([[1e-3, 0.0], [0.0, 0.0]]),
)  # two places change order

CASES = [
    *margin(ms.Logistic()),
    *margin(ms.Hinge(), kink=1.0),
    *margin(ms.SquaredHinge()),
    *margin(ms.ModifiedHuber()),
    *margin(ms.SquaredMargin()),
    *margin(ms.Exponential()),
    *margin(ms.Perceptron(), kink=0.0),
    *margin(ms.Ramp(), kink=1.0),
    *margin(ms.Savage()),
    *margin(ms.Tangent()),
    *(case for exponent in (0.0, 0.5, 2.0, 5.0) for case in margin(ms.BinaryFocal(exponent))),
    *(case for epsilon in (0.0, 0.5, 1.0, 4.0) for case in margin(ms.BinaryPoly1(epsilon))),
    *margin(ms.Asymmetric()),
    *margin(ms.Asymmetric(1.0, 2.0, 0.2)),
    *margin(ms.Asymmetric(0.0, 0.5, 0.1), kink=math.log(0.1 / 0.9)),
    *margin(ms.Asymmetric(0.5, 0.0, 0.05), kink=math.log(0.05 / 0.95)),
    *margin(ms.Asymmetric(2.0, 2.0, 0.0)),
    *margin(ms.Asymmetric(0.0, 0.0, 0.0)),
    multiclass(ms.CrossEntropy()),
    *(multiclass(ms.LabelSmoothing(share)) for share in (0.0, 0.1, 0.6)),
    *(multiclass(ms.Focal(exponent)) for exponent in (0.0, 0.5, 2.0, 5.0)),
    *(multiclass(ms.Poly1(epsilon)) for epsilon in (0.0, 1.0, 3.0)),
    *(multiclass(ms.GeneralisedCrossEntropy(q)) for q in (0.2, 0.7, 1.0)),
    multiclass(ms.SymmetricCrossEntropy()),
    *(multiclass(ms.SymmetricCrossEntropy(*weights)) for weights in ((2.0, 0.3), (1.0, 0.0), (1.0, 0.6))),
    multiclass(ms.Brier()),
    multiclass(ms.CrammerSinger(), kink=[0.0, -1.0, -9.0]),
    multiclass(ms.WestonWatkins(), far=True, kink=[0.0, -1.0, -9.0]),
    multiclass(ms.LeeLinWahba(), far=True, kink=[1.0, -0.5, -0.5]),
    regression(ms.LeastSquares()),
    regression(ms.Absolute(), kink=0.0),
    *(regression(kind(delta)) for kind in (ms.Huber, ms.PseudoHuber) for delta in (0.5, 1.0, 3.0)),
    regression(ms.LogCosh()),
    *(regression(ms.Pinball(level), kink=0.0) for level in (0.1, 0.5, 0.75)),
    *(regression(ms.EpsilonInsensitive(epsilon), kink=epsilon) for epsilon in (0.0, 0.5)),
    *(regression(ms.Cauchy(scale)) for scale in (0.5, 2.385)),
    *(regression(ms.Tukey(scale)) for scale in (1.0, 4.685)),
    *(likelihood(ms.Poisson(full=full), poisson, 0.0, 1.0, 4.0) for full in (True, False)),
    *(likelihood(ms.Gamma(shape), gamma, 0.3, 1.0, 4.0) for shape in (0.5, 1.0, 4.0)),
    *(likelihood(ms.Tweedie(power), tweedie, 0.0, 0.7, 4.0) for power in (1.1, 1.5, 1.9)),
    two_outputs(ms.Gaussian(), gaussian),
    two_outputs(ms.Laplace(), laplace),
    Case(
        ms.BinaryCrossEntropy(), binary, (12,), lambda: torch.rand(12, dtype=torch.float64).round(decimals=1)
    ),
    Case(
        ms.MultilabelLogistic(),
        multilabel,
        (5, 4),
        lambda: sets(5, 4),
        [(whole([1]), (1, 1)), (whole([0]), (1, 1))],
    ),
    Case(ms.MultilabelRanking(), ranking, (6, 4), lambda: sets(6, 4), [(y, tuple(y.shape)) for y in _SETS]),
    *(case for smooth in (1.0, 0.3) for case in regions(ms.Dice(smooth))),
    *(case for own in ((), (1.0, 0.0, 4.0)) for case in regions(ms.Tversky(*own))),
    *(case for own in ((), (0.5, 0.5, 1.0, 2.0)) for case in regions(ms.FocalTversky(*own))),
    Case(
        ms.LovaszHinge(),
        lovasz_hinge,
        (5, 2, 2),
        lambda: sets(5, 2, 2),
        _HALVES,
        kink=(at([1.0]), whole([1]), at([1e-3])),
    ),
    Case(
        ms.LovaszSoftmax(),
        lovasz_softmax,
        (4, 3, 2, 2),
        class_map,
        [(y, (1, 3, y.shape[1])) for y in (whole([0]), whole([0, 1]), whole([0, 2, 2]))],
        kink=_SWAP,
    ),
    Case(
        ms.Coral(),
        coral,
        (6, 4),
        lambda: torch.arange(6) % 5,
        [(whole(1), (1, k)) for k in (1, 3, 6)],
        [(whole(1), (1, 80))],
    ),
    *(embedding(ms.InfoNCE(temperature), info_nce) for temperature in (0.1, 1.5)),
    # The stranger is farther than the partner by the margin: a corner.
    *(
        embedding(
            ms.Triplet(m), triplet, (at([0.0], [1.0], [-1 - m]), whole(0, 0, 1), at([0.0], [1e-3], [0.0]))
        )
        for m in (0.2, 3.0)
    ),
    *(Case(ms.Distillation(t), distillation, (5, 4), teachers, _TAUGHT) for t in (2.0, 5.0)),
]
PROVED = [case for case in CASES if case.near]
