"""Convexity, Lipschitz constant, smoothness and bound of every loss: what it states is what a machine finds.

The machine draws points and climbs from the best; it reports infinity where three times as much is found farther out,
with more classes, or over a kink. A witness holds each constant from below, the search from above.
"""

import math

import numpy as np
import pytest
import torch
from losses.table import CASES, PROVED, Case, at, margin, multiclass, regression, single, whole
from support.sampled import sampled
from torch.func import grad, jacrev, vmap

from modelspace import losses as ms

INF = math.inf


def points(shape, scale, count):
    """Points of an even grid of one output; random ones of several."""
    if math.prod(shape) == 1:
        return torch.linspace(-scale, scale, count * 30 + 1, dtype=torch.float64).view(-1, *shape)
    return scale * torch.randn(count, *shape, dtype=torch.float64)


def greatest(size, shape, scales, count=500, rounds=30, kept=5):
    """The greatest ``size`` of outputs: of points, and of steps that shrink around the best of them."""
    size = vmap(size)
    z = torch.cat([points(shape, scale, count) for scale in scales])
    best = z[size(z).topk(kept).indices]
    for step in torch.logspace(0.5, -4, rounds):
        near = best[:, None] + step * torch.randn(kept, 12, *shape, dtype=torch.float64)
        near[:, 0] = best
        chosen = size(near.flatten(0, 1)).view(kept, 12).argmax(1)
        best = near[torch.arange(kept), chosen]
    return size(best).max().item()


def searched(case, size, most=1000):
    """The greatest of a size near by and far out, of all the values that the case has outputs of."""
    small = [(y, shape) for y, shape in case.near if math.prod(shape) <= most]
    large = [*small, *((y, shape) for y, shape in case.far if math.prod(shape) <= most)]
    near = max(greatest(size(single(case.loss, y)), shape, (0.5, 2, 6)) for y, shape in small)
    far = max(greatest(size(single(case.loss, y)), shape, (300, 1e-4), 200, 12) for y, shape in large)
    return INF if far > 3 * near or near > 1e6 else max(near, far)


def lipschitz(case):
    return searched(case, lambda value: lambda z: grad(value)(z).norm())


def smooth(case):
    if case.kink is not None:
        z, y, step = case.kink
        slope = grad(single(case.loss, y))
        wide, narrow = ((slope(z + s * step) - slope(z - s * step)).norm() / s for s in (1, 1e-3))
        return INF if narrow > 10 * wide else 0.0

    def norm(value):
        return lambda z: torch.linalg.matrix_norm(jacrev(grad(value))(z).reshape(z.numel(), z.numel()), 2)

    return max(searched(case, norm, most=10), turned(case))


def turned(case):
    """The most that the gradient turns between neighbours, over their distance: kinks are in it."""
    found = []
    for y, shape in case.near:
        slope = vmap(grad(single(case.loss, y)))
        z = points(shape, 3, 200)
        step = torch.full(shape, 1e-3, dtype=torch.float64)
        step = step if len(z) > 200 else step * torch.randn(shape, dtype=torch.float64)
        turn = (slope(z + step) - slope(z)).flatten(1).norm(dim=1)
        found.append((turn / step.norm()).max().item())
    return max(found)


def convex(case):
    """No midpoint above its chord by more than rounding."""
    for y, shape in case.near:
        value = vmap(single(case.loss, y))
        for scale in (1.0, 3.0, 10.0):
            a, b = (
                scale * torch.randn(5000 if math.prod(shape) < 100 else 50, *shape).double() for _ in range(2)
            )
            ends = value(a), value(b)
            above = value((a + b) / 2) - (ends[0] + ends[1]) / 2
            if (above > 1e-9 * (1 + ends[0].abs() + ends[1].abs())).any():
                return False
    return True


def bound(case):
    """The greatest value, or infinity where far out there is half as much again."""

    def most(scale):
        found = []
        for y, shape in (*case.near, *case.far):
            drawn = scale * torch.randn(50 if math.prod(shape) < 1000 else 2, *shape, dtype=torch.float64)
            z = torch.cat(
                [drawn, torch.full((1, *shape), scale).double(), torch.full((1, *shape), -scale).double()]
            )
            found.append(vmap(single(case.loss, y))(z).max().item())
        return max(found)

    near, far = most(1e2), most(1e8)
    return INF if far > 1.5 * near else max(near, far)


def agree(stated, found):
    return stated == found if INF in (stated, found) else found == pytest.approx(stated, rel=1e-3, abs=1e-3)


every_case = pytest.mark.parametrize("case", PROVED, ids=str)


def test_every_loss_of_the_catalogue_has_a_row():
    assert {type(case.loss) for case in CASES} == set(ms.Loss.catalogued)
    assert {type(case.loss) for case in PROVED} == set(ms.Loss.catalogued) - {ms.BinaryCrossEntropy}
    assert {case.loss.name for case in CASES} == set(ms.CATALOGUE)


@pytest.mark.parametrize("case", sampled(PROVED, 2), ids=str)
def test_the_gradient_is_no_longer_than_stated_and_as_long(case):
    stated = case.loss.properties.lipschitz
    if stated is None:
        return
    found = lipschitz(case)
    assert agree(stated, found)
    assert found <= stated + 1e-6
    for y, shape in case.near:
        value = vmap(single(case.loss, y))
        for scale in (1, 30, 1000):
            a, b = scale * torch.randn(2, 200, *shape, dtype=torch.float64)
            chord = (value(a) - value(b)).abs()
            assert (chord <= stated * (a - b).flatten(1).norm(dim=1) * (1 + 1e-9) + 1e-9).all()


@pytest.mark.parametrize("case", sampled(PROVED, 3), ids=str)
def test_the_curvature_is_no_greater_than_stated_and_as_great(case):
    stated = case.loss.properties.smooth
    if stated is not None:
        found = smooth(case)
        assert agree(stated, found)
        assert found <= stated + 1e-5


@every_case
def test_convex_or_a_chord_below_the_curve(case):
    assert case.loss.properties.convex == convex(case)


@every_case
def test_the_bound_is_met_and_not_passed(case):
    if not isinstance(case.loss, ms.InfoNCE):
        found = bound(case)
        assert agree(case.loss.properties.bound, found)
        assert found <= case.loss.properties.bound + 1e-9


def test_a_false_statement_does_not_agree():
    (logistic, _), (ramp, _) = margin(ms.Logistic()), margin(ms.Ramp(), kink=1.0)
    huber, squares, tukey = regression(ms.Huber(3.0)), regression(ms.LeastSquares()), regression(ms.Tukey())
    assert not agree(1.003, lipschitz(logistic))
    assert not agree(0.2525, smooth(logistic))
    assert not agree(INF, lipschitz(logistic))
    assert not agree(3.01, lipschitz(huber))
    assert not agree(1.0, lipschitz(squares))
    assert not agree(0.0, smooth(regression(ms.Absolute())))  # the grid meets the kink that no row names
    assert not agree(INF, smooth(regression(ms.Huber(3.0), kink=1.0)))  # where there is none
    assert not agree(2.0, bound(ramp))
    assert not agree(INF, bound(tukey))
    assert not convex(ramp)
    assert convex(logistic)
    assert greatest(lambda z: 2 - (z - 1).square().sum(), (3,), (1.0,)) == pytest.approx(2, abs=1e-3)


PARAMETRISED = [
    *(next(margin(ms.BinaryPoly1(epsilon))) for epsilon in (0.3, 2.7, 7.3)),
    *(regression(kind(scale)) for kind in (ms.Huber, ms.Cauchy, ms.Tukey) for scale in (0.3, 7.0)),
    *(multiclass(ms.Poly1(epsilon)) for epsilon in (0.4, 7.0)),
]


@pytest.mark.parametrize("case", sampled(PARAMETRISED, 3), ids=str)
def test_constants_hold_at_other_parameters(case):
    stated = case.loss.properties
    assert agree(stated.lipschitz, lipschitz(case))
    assert agree(stated.smooth, smooth(case))
    assert agree(stated.bound, bound(case))
    assert stated.convex == convex(case)


# Convex or not, Lipschitz constant, smoothness, bound, calibration, minimiser at 0.8, properness: the literature's.
PUBLISHED = {
    "logistic": (True, 1, 0.25, INF, True, math.log(4), True),
    "hinge": (True, 1, INF, INF, True, 1, None),
    "squared_hinge": (True, INF, 2, INF, True, 0.6, True),
    "modified_huber": (True, 4, 2, INF, True, 0.6, True),
    "squared_margin": (True, INF, 2, INF, True, 0.6, True),
    "exponential": (True, INF, INF, INF, True, 0.693, True),
    "perceptron": (True, 1, INF, INF, False, 0, None),
    "ramp": (False, 1, INF, 1, True, 1, None),
    "savage": (False, 0.296, 0.154, 1, True, math.log(4), True),
    "tangent": (False, 6.2, 8.485, 17.15, True, 0.309, True),
    "binary_focal": (False, 1.13, 0.496, INF, True, 0.517, False),
    "binary_poly1": (True, 1, 0.296, INF, True, 1.888, False),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_agrees_with_the_published_table(name):
    loss, (shape, steep, bent, most, calibrated, best, proper) = ms.CATALOGUE[name], PUBLISHED[name]
    stated = loss.properties
    assert (stated.convex, stated.calibrated, stated.proper) == (shape, calibrated, proper)
    constants = (stated.lipschitz, stated.smooth, stated.bound, loss.minimiser(at(0.8)).item())
    assert constants == pytest.approx((steep, bent, most, best), rel=0.01, abs=1e-3)


def test_constants_of_closed_form():
    def steep(loss):
        return loss.properties.lipschitz / math.sqrt(2)

    assert ms.CrossEntropy().properties.smooth == ms.Focal(0.0).properties.smooth == pytest.approx(0.5)
    assert steep(ms.Focal(2.0)) == pytest.approx(1.13, abs=5e-3)  # with two classes, in the margin
    for epsilon in (0.5, 1.0, 3.0):
        exact = 1 if epsilon <= 1 else (1 + epsilon) ** 2 / (4 * epsilon)
        assert steep(ms.Poly1(epsilon)) == pytest.approx(exact, abs=1e-6)
    for q in (0.2, 0.7, 1.0):
        assert steep(ms.GeneralisedCrossEntropy(q)) == pytest.approx(q**q / (1 + q) ** (1 + q), abs=1e-6)


OF_CLASSES = {
    "weston_watkins": lambda c: math.sqrt(c * (c - 1)),
    "lee_lin_wahba": lambda c: max(math.sqrt(k * (c - k) / c) for k in range(1, c)),
    "label_smoothing": lambda c: math.sqrt(1 + 0.9**2 - 0.1**2 / c),
    "coral": lambda c: math.sqrt(c),
}


@pytest.mark.parametrize("name", OF_CLASSES)
def test_constants_that_notes_give_for_a_number_of_classes(name):
    value = single(ms.CATALOGUE[name], whole(0))
    for classes in (2, 3, 5):
        found = greatest(lambda z: grad(value)(z).norm(), (1, classes), (1, 5, 200))
        assert found == pytest.approx(OF_CLASSES[name](classes), abs=1e-3)


def test_info_nce_s_bound_with_n_embeddings():
    for temperature in (0.1, 1.0):
        z = at([1.0, 0.0], [-1.0, 0.0], *[[1.0, 0.0]] * 5)
        worst = ms.InfoNCE(temperature)(z, whole(0, 0, 1, 2, 3, 4, 5), reduction="none")[0].item()
        limit = 2 / temperature + math.log(6)
        assert limit - 0.2 < worst <= limit
        drawn = ms.InfoNCE(temperature)(
            torch.randn(7, 2).double(), whole(0, 2, 1, 0, 2, 2, 7), reduction="none"
        )
        assert drawn.max() <= limit


def test_binary_cross_entropy_between_0_and_1():
    loss, z = ms.BinaryCrossEntropy(), torch.linspace(1e-6, 1 - 1e-6, 20_001, dtype=torch.float64)
    for y in (0, 1):
        values = loss(z, torch.full_like(z, y), reduction="none").numpy()
        assert (np.diff(values, 2) >= -1e-12).all()
        edge = at(1e-9 if y else 1 - 1e-9)
        assert grad(single(loss, at(y)))(edge).abs() > 1e8
        assert loss(at(1.0 - y), at(y)).item() == loss.properties.bound


def test_what_couples_a_batch_says_so():
    for loss in (ms.InfoNCE(), ms.Triplet()):
        assert "couples the batch" in loss.properties.notes
    for loss in (ms.Dice(), ms.Tversky(), ms.FocalTversky(), ms.LovaszHinge(), ms.LovaszSoftmax()):
        assert "one value a sample" in loss.properties.notes


def test_a_row_s_kink_is_one():
    assert all(case.loss.properties.smooth == INF for case in CASES if case.kink)
    assert isinstance(CASES[0], Case)
