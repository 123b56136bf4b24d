"""The structured losses written with Python's own numbers and loops, and batches to hold them against."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import torch

from modelspace.losses import (
    Coral,
    Dice,
    Distillation,
    FocalTversky,
    InfoNCE,
    LovaszHinge,
    LovaszSoftmax,
    MultilabelLogistic,
    MultilabelRanking,
    Triplet,
    Tversky,
)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def softmax(z):
    e = [math.exp(x - max(z)) for x in z]
    return [x / sum(e) for x in e]


def logistic(loss, z, y):
    pairs = [list(zip(r, s, strict=True)) for r, s in zip(z, y, strict=True)]
    return [[math.log(1 + math.exp(-b if t else b)) for b, t in row] for row in pairs]


def ranking(loss, z, y):
    classes = range(len(z[0]))
    return [
        math.log(1 + sum(math.exp(r[a] - r[b]) for a in classes for b in classes if not s[a] and s[b]))
        for r, s in zip(z, y, strict=True)
    ]


def overlap(loss, p, y):
    hit = sum(a * t for a, t in zip(p, y, strict=True))
    if isinstance(loss, Dice):
        return 1 - (2 * hit + loss.smooth) / (sum(p) + sum(y) + loss.smooth)
    beyond = sum(a * (1 - t) for a, t in zip(p, y, strict=True))
    missed = sum((1 - a) * t for a, t in zip(p, y, strict=True))
    below = hit + loss.fp_weight * beyond + loss.fn_weight * missed + loss.smooth
    value = 1 - (hit + loss.smooth) / below
    return value**loss.region_exponent if isinstance(loss, FocalTversky) else value


def flat(nested):
    return [x for inner in nested for x in flat(inner)] if isinstance(nested, list) else [nested]


def masks(loss, z, y):
    return [overlap(loss, [sigmoid(x) for x in flat(r)], flat(s)) for r, s in zip(z, y, strict=True)]


def by_place(sample, labels):
    """The softmax and the class of every place of a sample that counts."""
    places = list(zip(*[flat(channel) for channel in sample], strict=True))
    return [(softmax(z), c) for z, c in zip(places, flat(labels), strict=True) if c != -100]


def maps(loss, z, y):
    def value(sample, labels):
        kept, classes = by_place(sample, labels), range(len(sample))
        regions = [([p[c] for p, _ in kept], [float(k == c) for _, k in kept]) for c in classes]
        return sum(overlap(loss, *region) for region in regions) / len(classes)

    return [value(r, s) for r, s in zip(z, y, strict=True)]


def jaccard_loss(wrong, region):
    """One less the Jaccard index of a region and what is found of it where the places of a set are wrong."""
    found = region ^ wrong
    return 1 - len(found & region) / len(found | region) if found | region else 0.0


def lovasz(errors, region):
    """The Lovász extension of a submodular function is the greatest over all orders of its greedy sums."""

    def along(order):
        sets = [set(order[:i]) for i in range(len(order) + 1)]
        steps = zip(sets[1:], sets, strict=False)
        return sum(
            errors[i] * (jaccard_loss(after, region) - jaccard_loss(before, region))
            for i, (after, before) in zip(order, steps, strict=True)
        )

    return max(along(order) for order in permutations(range(len(errors))))


def lovasz_hinge(loss, z, y):
    def value(sample, mask):
        errors = [max(0, 1 - x if t else 1 + x) for x, t in zip(flat(sample), flat(mask), strict=True)]
        return lovasz(errors, {i for i, t in enumerate(flat(mask)) if t})

    return [value(r, s) for r, s in zip(z, y, strict=True)]


def lovasz_softmax(loss, z, y):
    def value(sample, labels):
        kept = by_place(sample, labels)
        present = sorted({k for _, k in kept})
        each = [
            lovasz([abs((k == c) - p[c]) for p, k in kept], {i for i, (_, k) in enumerate(kept) if k == c})
            for c in present
        ]
        return sum(each) / len(each) if each else 0.0

    return [value(r, s) for r, s in zip(z, y, strict=True)]


def coral(loss, z, y):
    return [
        sum(-math.log(sigmoid(x) if rank > k else 1 - sigmoid(x)) for k, x in enumerate(row))
        for row, rank in zip(z, y, strict=True)
    ]


def info_nce(loss, z, y):
    def cosine(a, b):
        return sum(map(float.__mul__, a, b)) / math.hypot(*a) / math.hypot(*b)

    values = []
    for i in range(len(z)):
        others = [k for k in range(len(z)) if k != i]
        partners = [k for k in others if y[k] == y[i]]
        below = sum(math.exp(cosine(z[i], z[k]) / loss.temperature) for k in others)
        each = [-math.log(math.exp(cosine(z[i], z[j]) / loss.temperature) / below) for j in partners]
        values.append(sum(each) / len(each) if each else None)
    return values


def triplet(loss, z, y):
    values = []
    for i in range(len(z)):
        partners = [math.dist(z[i], z[j]) for j in range(len(z)) if j != i and y[j] == y[i]]
        strangers = [math.dist(z[i], z[k]) for k in range(len(z)) if y[k] != y[i]]
        nearest = min(strangers, default=math.inf)
        values.append(max(0, loss.margin + max(partners) - nearest) if partners else None)
    return values


def distillation(loss, z, y):
    def value(student, teacher):
        p, q = (softmax([x / loss.temperature for x in row]) for row in (student, teacher))
        return loss.temperature**2 * sum(b * math.log(b / a) for a, b in zip(p, q, strict=True))

    return [value(r, s) for r, s in zip(z, y, strict=True)]


def sets(*shape):
    labels = torch.randint(2, shape)
    labels[0], labels[1] = 0, 1  # nothing and everything
    return labels


def class_map():
    labels = torch.randint(3, (4, 2, 2))
    labels[1, 0, 1] = labels[2] = -100
    return labels


@dataclass(frozen=True)
class Case:
    """A loss, its formula in Python, and a batch: the outputs' shape and what draws the labels."""

    loss: Any
    formula: Callable[[Any, list, list], list]
    shape: tuple[int, ...]
    labels: Callable[[], torch.Tensor]
    form: str = ""

    def __str__(self):
        return f"{self.loss}{self.form}"

    def batch(self, dtype=torch.float64):
        outputs, labels = 2 * torch.randn(self.shape, dtype=torch.float64), self.labels()
        return outputs.to(dtype), labels.to(dtype) if labels.dtype.is_floating_point else labels


def regions(loss):
    return [
        Case(loss, masks, (5, 2, 2), lambda: sets(5, 2, 2), " of masks"),
        Case(loss, maps, (4, 3, 2, 2), class_map, " of classes"),
    ]


def grouped():
    return torch.tensor([0, 2, 1, 0, 2, 2, 7])


CASES = [
    Case(MultilabelLogistic(), logistic, (5, 4), lambda: sets(5, 4)),
    Case(MultilabelRanking(), ranking, (6, 4), lambda: sets(6, 4)),
    *[
        case
        for loss in (
            Dice(),
            Dice(0.3),
            Tversky(),
            Tversky(1.0, 0.0, 4.0),
            FocalTversky(),
            FocalTversky(0.5, 0.5, 1.0, 2.0),
        )
        for case in regions(loss)
    ],
    Case(LovaszHinge(), lovasz_hinge, (5, 2, 2), lambda: sets(5, 2, 2)),
    Case(LovaszSoftmax(), lovasz_softmax, (4, 3, 2, 2), class_map),
    Case(Coral(), coral, (6, 4), lambda: torch.arange(6) % 5),
    Case(InfoNCE(), info_nce, (7, 3), grouped),
    Case(InfoNCE(1.5), info_nce, (7, 3), grouped),
    Case(Triplet(), triplet, (7, 3), grouped),
    Case(Triplet(3.0), triplet, (7, 3), grouped),
    Case(Distillation(), distillation, (5, 4), lambda: 2 * torch.randn(5, 4, dtype=torch.float64)),
    Case(Distillation(5.0), distillation, (5, 4), lambda: 2 * torch.randn(5, 4, dtype=torch.float64)),
]
