"""The multiclass losses of one sample, written with Python's own numbers, and the parameters they are tested at."""

import math

from modelspace.losses import (
    Brier,
    CrammerSinger,
    CrossEntropy,
    Focal,
    GeneralisedCrossEntropy,
    LabelSmoothing,
    LeeLinWahba,
    Poly1,
    SymmetricCrossEntropy,
    WestonWatkins,
)


def softmax(z):
    e = [math.exp(x - max(z)) for x in z]
    return [x / sum(e) for x in e]


def rivals(z, y):
    return [x for c, x in enumerate(z) if c != y]


def smoothed(loss, z, y):
    p, s = softmax(z), loss.smoothing
    return sum(-((1 - s) * (c == y) + s / len(z)) * math.log(p[c]) for c in range(len(z)))


def symmetric(loss, z, y):
    p = softmax(z)
    reverse = -sum(p[c] * (0 if c == y else -4) for c in range(len(z)))
    return -loss.forward_weight * math.log(p[y]) + loss.reverse_weight * reverse


def lee_lin_wahba(z, y):
    mean = sum(z) / len(z)
    return sum(max(0, x - mean + 1 / (len(z) - 1)) for x in rivals(z, y))


FORMULAS = {
    CrossEntropy: lambda loss, z, y: -math.log(softmax(z)[y]),
    LabelSmoothing: smoothed,
    Focal: lambda loss, z, y: -((1 - softmax(z)[y]) ** loss.gamma) * math.log(softmax(z)[y]),
    Poly1: lambda loss, z, y: -math.log(softmax(z)[y]) + loss.epsilon * (1 - softmax(z)[y]),
    GeneralisedCrossEntropy: lambda loss, z, y: (1 - softmax(z)[y] ** loss.q) / loss.q,
    SymmetricCrossEntropy: symmetric,
    Brier: lambda loss, z, y: sum((p - (c == y)) ** 2 for c, p in enumerate(softmax(z))),
    CrammerSinger: lambda loss, z, y: max(0, 1 + max(rivals(z, y)) - z[y]),
    WestonWatkins: lambda loss, z, y: sum(max(0, 1 + x - z[y]) for x in rivals(z, y)),
    LeeLinWahba: lambda loss, z, y: lee_lin_wahba(z, y),
}
LOSSES = [
    CrossEntropy(),
    LabelSmoothing(),
    LabelSmoothing(0.0),
    LabelSmoothing(0.6),
    Focal(),
    Focal(0.0),
    Focal(0.5),
    Focal(5.0),
    Poly1(),
    Poly1(0.0),
    Poly1(3.0),
    GeneralisedCrossEntropy(),
    GeneralisedCrossEntropy(0.2),
    GeneralisedCrossEntropy(1.0),
    SymmetricCrossEntropy(),
    SymmetricCrossEntropy(2.0, 0.3),
    SymmetricCrossEntropy(1.0, 0.0),
    SymmetricCrossEntropy(1.0, 0.6),
    Brier(),
    CrammerSinger(),
    WestonWatkins(),
    LeeLinWahba(),
]
HINGES = (CrammerSinger, WestonWatkins, LeeLinWahba)
SMOOTH = [loss for loss in LOSSES if not isinstance(loss, HINGES)]
