"""What minimises the conditional risk Σ_y p_y ℓ(z, y), against grids that hold its breakpoints."""

from functools import cache

import pytest
import torch
from losses.multiclass.formulas import HINGES, LOSSES, SMOOTH

from modelspace.losses import CrammerSinger, CrossEntropy, Focal, LabelSmoothing, LeeLinWahba, WestonWatkins

NO_MAJORITY = (0.4, 0.35, 0.25)
DISTRIBUTIONS = [
    NO_MAJORITY,
    (0.35, 0.25, 0.4),
    (0.6, 0.3, 0.1),
    (0.05, 0.15, 0.8),
    (0.34, 0.33, 0.33),
    (0.4, 0.4, 0.2),
    (0.2, 0.4, 0.4),
    (0.3, 0.3, 0.4),
    (0.49, 0.48, 0.03),
    (1 / 3, 1 / 3, 1 / 3),
    (0.97, 0.02, 0.01),
]
PROBABILITIES = torch.tensor(DISTRIBUTIONS, dtype=torch.float64)


def each_label(loss, z):
    """ℓ(z, y) for every row of scores and every label: [rows, classes]."""
    rows, classes = z.shape
    labels = torch.arange(classes).repeat(rows)
    return loss(z.repeat_interleave(classes, 0), labels, reduction="none").view(rows, classes)


@cache
def minimiser(loss):
    return loss.minimiser(PROBABILITIES)


def simplex(steps):
    a, b = torch.meshgrid(*[torch.arange(1, steps, dtype=torch.float64)] * 2, indexing="ij")
    inside = a + b < steps
    a, b = a[inside] / steps, b[inside] / steps
    return torch.stack([a, b, 1 - a - b], 1)


def breakpoints(loss):
    """Scores where the pieces of a hinge meet: multiples of 1, of ½ for Lee, Lin and Wahba."""
    step = 0.5 if isinstance(loss, LeeLinWahba) else 1.0
    axis = torch.arange(-4, 4.1, step, dtype=torch.float64)
    return torch.cat([torch.zeros(len(axis) ** 2, 1).double(), torch.cartesian_prod(axis, axis)], 1)


def top(values, slack=1e-9):
    return {c for c, v in enumerate(values) if v >= max(values) - slack}


def best(loss, p):
    """All points of the breakpoints' grid that minimise the risk."""
    grid = breakpoints(loss)
    risks = each_label(loss, grid) @ torch.tensor(p, dtype=torch.float64)
    return grid[risks <= risks.min() + 1e-12]


def picks_the_likeliest(loss, p):
    return all(top(z.tolist()) <= top(p) for z in best(loss, p))


@pytest.mark.parametrize("loss", SMOOTH, ids=str)
def test_the_minimiser_is_as_good_as_every_point_of_a_grid(loss):
    grid = torch.log(simplex(100))
    least = (each_label(loss, grid) @ PROBABILITIES.T).amin(0)
    z = minimiser(loss)
    own = (each_label(loss, z) * PROBABILITIES).sum(1)
    assert (own <= least + 1e-9).all()
    assert (own >= least - 0.1).all()  # the grid comes close: the risk is of the same loss


@pytest.mark.parametrize("loss", SMOOTH, ids=str)
def test_the_minimiser_picks_the_likeliest_class(loss):
    assert loss.properties.calibrated
    for p, z in zip(DISTRIBUTIONS, minimiser(loss).tolist(), strict=True):
        assert top(z) == top(p)


@pytest.mark.parametrize("loss", SMOOTH, ids=str)
def test_with_five_classes_nothing_near_the_minimiser_nor_far_is_better(loss):
    p = torch.distributions.Dirichlet(torch.ones(5, dtype=torch.float64)).sample((4,))
    z = loss.minimiser(p).clamp(min=-1000)
    own = (each_label(loss, z) * p).sum(1)
    for step in (0.01, 0.3, 3.0):
        tried = z.unsqueeze(1) + step * torch.randn(4, 250, 5, dtype=torch.float64)
        risks = (each_label(loss, tried.flatten(0, 1)).view(4, 250, 5) * p.unsqueeze(1)).sum(2)
        assert (risks.amin(1) >= own - 1e-9).all()
    assert (z.argmax(1) == p.argmax(1)).all()


@pytest.mark.parametrize("loss", SMOOTH, ids=str)
def test_proper_if_and_only_if_the_probabilities_come_back(loss):
    back = loss.probability(minimiser(loss))
    assert loss.properties.proper is torch.allclose(back, PROBABILITIES, atol=1e-8)


def test_focal_s_minimiser_fulfils_its_stated_equation():
    for gamma in (0.5, 2.0, 5.0):
        q = torch.softmax(minimiser(Focal(gamma)), 1)
        share = q / ((1 - q) ** gamma - gamma * (1 - q) ** (gamma - 1) * q * q.log())
        torch.testing.assert_close(share / share.sum(1, keepdim=True), PROBABILITIES)


def test_the_softmax_of_label_smoothing_is_the_softened_distribution():
    q = torch.softmax(LabelSmoothing(0.3).minimiser(PROBABILITIES), 1)
    torch.testing.assert_close(q, 0.7 * PROBABILITIES + 0.1)


@pytest.mark.parametrize("loss", [CrammerSinger(), LeeLinWahba()], ids=str)
def test_the_hinges_minimisers_are_among_the_best(loss):
    for p in DISTRIBUTIONS:
        row = torch.tensor([p], dtype=torch.float64)
        own = (each_label(loss, loss.minimiser(row)) * row).sum()
        grid = (each_label(loss, breakpoints(loss)) @ row.T).min()
        torch.testing.assert_close(own, grid)


@pytest.mark.parametrize("loss", [each for each in LOSSES if isinstance(each, HINGES)], ids=str)
def test_no_scores_off_the_grid_are_better(loss):
    finer = 4 * torch.rand(20000, 3, dtype=torch.float64)
    least = (each_label(loss, breakpoints(loss)) @ PROBABILITIES.T).amin(0)
    assert ((each_label(loss, finer) @ PROBABILITIES.T).amin(0) >= least - 1e-12).all()


@pytest.mark.parametrize("loss", [each for each in LOSSES if isinstance(each, HINGES)], ids=str)
def test_a_hinge_is_calibrated_if_and_only_if_every_distribution_passes(loss):
    passed = [picks_the_likeliest(loss, p) for p in DISTRIBUTIONS]
    assert loss.properties.calibrated is all(passed)
    assert loss.properties.proper is None
    assert loss.probability(torch.zeros(2, 3)) is None


def test_where_the_two_uncalibrated_hinges_fail():
    for p in DISTRIBUTIONS:
        majority = max(p) > 0.5
        assert picks_the_likeliest(CrammerSinger(), p) is (majority or len(top(p)) == 3)
    assert not picks_the_likeliest(WestonWatkins(), NO_MAJORITY)
    assert all({0, 1} <= top(z.tolist()) for z in best(WestonWatkins(), NO_MAJORITY))
    assert picks_the_likeliest(LeeLinWahba(), NO_MAJORITY)
    assert CrossEntropy().properties.calibrated
