"""What minimises the conditional risk Σ_y p_y ℓ(z, y) of every loss: minimiser, calibration and properness.

A loss's own minimiser is held against candidates: a grid that has the breakpoints of piecewise linear losses, and
points near it and far from it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from losses.table import CASES, at
from scipy.stats import cauchy
from support.sampled import sampled
from torch import Tensor

from modelspace import losses as ms

GRID = torch.arange(-12 * 256, 12 * 256 + 1, dtype=torch.float64) / 256  # the margin losses' kinks lie on it
PROBABILITIES = at(0.03, 0.1, 0.2, 0.35, 0.495, 0.505, 0.65, 0.8, 0.9, 0.94)
NO_MAJORITY = (0.4, 0.35, 0.25)
DISTRIBUTIONS = at(
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
)
RANKS = at((0.1, 0.2, 0.4, 0.3), (0.4, 0.2, 0.2, 0.2), (0.05, 0.05, 0.1, 0.8))
SAMPLES = at(-3.1, -0.7, -0.4, 0.05, 0.3, 0.9, 1.6, 2.2, 14.0)
AMOUNTS = at(1.0, 2.0, 2.0, 7.0)
TEACHERS = 2 * torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Risks:
    """A loss under some distributions of its labels.

    Attributes:
        loss: The loss.
        labels: Every label that there is.
        weights: Their probabilities, a row a distribution.
        candidates: Outputs, ``[n, …]``.
        given: What the loss's minimiser takes, one for each distribution; a tensor of all where it takes that.
        best: The likeliest labels of each distribution, as sets; None where labels are no classes.
    """

    loss: Any
    labels: Sequence[Tensor]
    weights: Tensor
    candidates: Tensor
    given: Sequence[Tensor]
    best: Sequence[set[int]] | None = None

    def __str__(self) -> str:
        return str(self.loss)

    def at(self, z: Tensor) -> Tensor:
        """The risk of every output under every distribution, [n, distribution]."""
        columns = [self.loss(z, y.expand(len(z), *y.shape), reduction="none") for y in self.labels]
        return torch.stack([column.reshape(len(z)) for column in columns], 1) @ self.weights.T

    def choice(self, z: Tensor) -> set[int]:
        """The labels that an output is for."""
        scores = [z.item(), -z.item()] if z.numel() == 1 else z.flatten().tolist()
        return likeliest(scores)


def likeliest(scores):
    return {k for k, score in enumerate(scores) if score >= max(scores) - 1e-9}


def simplex(steps):
    a, b = torch.meshgrid(*[torch.arange(1, steps, dtype=torch.float64) / steps] * 2, indexing="ij")
    inside = a + b < 1 - 1e-9
    return torch.stack([a[inside], b[inside], (1 - a - b)[inside]], 1)


def breakpoints(loss):
    """Scores where the pieces of a hinge meet: multiples of 1, of ½ for Lee, Lin and Wahba."""
    axis = torch.arange(-4, 4.1, 0.5 if isinstance(loss, ms.LeeLinWahba) else 1.0, dtype=torch.float64)
    return torch.cat([torch.zeros(len(axis) ** 2, 1).double(), torch.cartesian_prod(axis, axis)], 1)


@cache
def risks(loss):
    both = torch.stack([PROBABILITIES, 1 - PROBABILITIES], 1)
    sides = [likeliest(row) for row in both.tolist()]
    if isinstance(loss, ms.MarginLoss):
        return Risks(loss, [torch.tensor(1), torch.tensor(-1)], both, GRID, PROBABILITIES, sides)
    if isinstance(loss, ms.MultilabelLogistic):
        return Risks(
            loss, [torch.tensor([1]), torch.tensor([0])], both, GRID[:, None], PROBABILITIES[:, None], sides
        )
    if isinstance(loss, ms.BinaryCrossEntropy):
        unit = torch.linspace(0, 1, 1001, dtype=torch.float64)
        return Risks(loss, [torch.tensor(1), torch.tensor(0)], both, unit, PROBABILITIES, None)
    if isinstance(loss, ms.MulticlassLoss):
        candidates = torch.log(simplex(100)) if loss.properties.smooth < math.inf else breakpoints(loss)
        best = [likeliest(p) for p in DISTRIBUTIONS.tolist()]
        return Risks(loss, [*torch.arange(3)], DISTRIBUTIONS, candidates, DISTRIBUTIONS, best)
    if isinstance(loss, ms.Coral):
        return Risks(loss, [*torch.arange(4)], RANKS, 3 * torch.randn(5000, 3).double(), RANKS)
    if isinstance(loss, ms.Distillation):
        even = torch.full((1, 3), 1 / 3, dtype=torch.float64)
        return Risks(loss, [*TEACHERS], even, 3 * torch.randn(5000, 4).double(), [TEACHERS])
    samples = AMOUNTS if isinstance(loss, ms.LogMeanLoss) else SAMPLES
    even = torch.full((1, len(samples)), 1 / len(samples), dtype=torch.float64)
    # Piecewise linear losses have their least value at a sample, or at its distance ε from one.
    line = torch.cat(
        [torch.linspace(-4, 15, 20_001, dtype=torch.float64), samples, samples - 0.5, samples + 0.5]
    )
    if isinstance(loss, ms.LocationScaleLoss):
        line = torch.cartesian_prod(torch.linspace(-2, 4, 121).double(), torch.linspace(-1, 4, 121).double())
    return Risks(loss, [*samples], even, line, [samples])


LOSSES = list(dict.fromkeys(c.loss for c in CASES if hasattr(c.loss, "minimiser")))
OF_CLASSES = [
    loss for loss in LOSSES if loss.properties.calibrated is not None and risks(loss).best is not None
]
KNOWN = [loss for loss in LOSSES if not isinstance(loss, ms.WestonWatkins)]


@cache
def minimisers(loss):
    """A minimiser for each distribution; what lies at infinity is far out."""
    given = risks(loss).given
    found = loss.minimiser(given) if isinstance(given, Tensor) else torch.stack([*map(loss.minimiser, given)])
    return found.clamp(-1000, 1000)


@pytest.mark.parametrize("loss", sampled(KNOWN, 2), ids=str)
def test_no_candidate_is_better_than_the_minimiser(loss):
    of = risks(loss)
    least = of.at(of.candidates).amin(0)
    for k, z in enumerate(minimisers(loss)):
        own = of.at(z[None])[0, k]
        assert own <= least[k] + 1e-9
        assert own >= least[k] - 0.1  # a candidate comes close: the risk is of the same loss
        for step in (0.01, 0.3, 3.0):
            near = z + step * torch.randn(200, *z.shape, dtype=torch.float64)
            near = near.clamp(0, 1) if isinstance(loss, ms.BinaryCrossEntropy) else near
            assert of.at(near)[:, k].min() >= own - 1e-9


@pytest.mark.parametrize("loss", OF_CLASSES, ids=str)
def test_calibrated_if_and_only_if_all_that_is_best_picks_the_likeliest(loss):
    assert loss.properties.calibrated is all(picks_the_likeliest(loss))


def picks_the_likeliest(loss):
    """For each distribution, whether every candidate as good as the best is for the likeliest labels alone."""
    of = risks(loss)
    table = of.at(of.candidates)
    for k, best in enumerate(of.best):
        low = table[:, k].min()
        if loss in KNOWN:
            z = minimisers(loss)[k]
            low = torch.minimum(low, of.at(z[None])[0, k])
        chosen = [of.choice(of.candidates[i]) for i in (table[:, k] <= low + 1e-9).nonzero().flatten()]
        if loss in KNOWN:
            chosen.append(of.choice(z))
        yield all(choice <= best for choice in chosen)


def test_where_the_two_uncalibrated_hinges_fail():
    for p, right in zip(DISTRIBUTIONS, picks_the_likeliest(ms.CrammerSinger()), strict=True):
        assert right is bool(p.max() > 0.5 or len(likeliest(p.tolist())) == 3)
    of = risks(ms.WestonWatkins())
    first = of.at(of.candidates)[:, 0]
    best = of.candidates[first <= first.min() + 1e-12]
    assert all({0, 1} <= likeliest(z.tolist()) for z in best)  # at NO_MAJORITY the two likeliest tie


@pytest.mark.parametrize("loss", OF_CLASSES, ids=str)
def test_proper_if_and_only_if_the_probabilities_come_back(loss):
    if loss not in KNOWN or (back := loss.probability(minimisers(loss))) is None:
        assert loss.properties.proper is None
        return
    given = torch.stack([*risks(loss).given])
    assert loss.properties.proper is torch.allclose(back, given, atol=1e-7)


@pytest.mark.parametrize("name", ["coral", "binary_cross_entropy"])
def test_ranks_and_probabilities_come_back(name):
    loss = ms.CATALOGUE[name]
    given = torch.stack([*risks(loss).given])
    torch.testing.assert_close(loss.probability(minimisers(loss)), given)
    assert loss.properties.proper
    assert loss.properties.calibrated


@pytest.mark.parametrize("loss", [loss for loss in KNOWN if isinstance(loss, ms.MulticlassLoss)], ids=str)
def test_with_five_classes_nothing_near_the_minimiser_nor_far_is_better(loss):
    p = torch.distributions.Dirichlet(torch.ones(5, dtype=torch.float64)).sample((4,))
    z = loss.minimiser(p).clamp(min=-1000)
    of = Risks(loss, [*torch.arange(5)], p, z, p)
    own = of.at(z).diagonal()
    for step in (0.01, 0.3, 3.0):
        for k in range(4):
            assert (of.at(z[k] + step * torch.randn(250, 5).double())[:, k] >= own[k] - 1e-9).all()
    if loss.properties.calibrated:
        assert (z.argmax(1) == p.argmax(1)).all()


def test_no_scores_off_the_breakpoints_are_better():
    for loss in (ms.CrammerSinger(), ms.WestonWatkins(), ms.LeeLinWahba()):
        of = risks(loss)
        finer = of.at(4 * torch.rand(20_000, 3, dtype=torch.float64)).amin(0)
        assert (finer >= of.at(of.candidates).amin(0) - 1e-12).all()


def test_no_loss_of_numbers_has_probabilities():
    for loss in ms.CATALOGUE.values():
        if loss.kind == "regression":
            assert (loss.properties.calibrated, loss.properties.proper) == (None, None)


def test_minimisers_that_have_a_name():
    y = SAMPLES.numpy()

    def least(loss):
        return loss.minimiser(SAMPLES).tolist()

    assert least(ms.LeastSquares()) == pytest.approx(y.mean())
    assert least(ms.Absolute()) == np.median(y)
    assert least(ms.Pinball(0.3)) == np.quantile(y, 0.3, method="inverted_cdf")
    z = least(ms.Huber(1.0))
    assert z == pytest.approx(np.mean(np.clip(y, z - 1, z + 1)), abs=1e-9)
    r = y - least(ms.PseudoHuber(2.0))
    assert (r / np.sqrt(1 + (r / 2) ** 2)).mean() == pytest.approx(0, abs=1e-9)
    assert np.tanh(y - least(ms.LogCosh())).mean() == pytest.approx(0, abs=1e-9)
    z = least(ms.EpsilonInsensitive(0.5))
    above, below = (y - z > 0.5 + 1e-9).sum(), (y - z < -0.5 - 1e-9).sum()
    assert abs(above - below) <= (np.abs(np.abs(y - z) - 0.5) <= 1e-9).sum()
    grid = np.linspace(-3, 14, 17_001)
    likelihood = cauchy.logpdf(y[:, None], loc=grid, scale=1.5).sum(0)
    assert least(ms.Cauchy(1.5)) == pytest.approx(grid[likelihood.argmax()], abs=1e-3)
    assert least(ms.Gaussian()) == pytest.approx([y.mean(), math.log(y.var())])
    assert least(ms.Laplace()) == pytest.approx([np.median(y), math.log(np.abs(y - np.median(y)).mean())])
    for loss in (ms.Poisson(), ms.Gamma(2.0), ms.Tweedie(1.3)):
        assert loss.minimiser(AMOUNTS).item() == pytest.approx(math.log(3))


def test_minimisers_fulfil_their_stated_equations():
    for gamma in (0.5, 2.0, 5.0):
        q = torch.softmax(ms.Focal(gamma).minimiser(DISTRIBUTIONS), 1)
        share = q / ((1 - q) ** gamma - gamma * (1 - q) ** (gamma - 1) * q * q.log())
        torch.testing.assert_close(share / share.sum(1, keepdim=True), DISTRIBUTIONS)
    q = torch.softmax(ms.LabelSmoothing(0.3).minimiser(DISTRIBUTIONS), 1)
    torch.testing.assert_close(q, 0.7 * DISTRIBUTIONS + 0.1)
    alone = ms.Distillation().minimiser(TEACHERS[:1])
    torch.testing.assert_close(alone - alone.mean(), TEACHERS[0] - TEACHERS[0].mean())


def test_where_a_negative_s_loss_is_bounded_a_sure_positive_has_no_finite_score():
    loss = ms.Asymmetric()
    sure = loss.minimiser(at(0.5, 0.999))
    assert sure[0].isfinite()
    assert sure[1] == math.inf
    of = Risks(loss, [torch.tensor(1), torch.tensor(-1)], at((0.999, 0.001)), GRID, PROBABILITIES)
    far = of.at(at(5.0, 10.0, 15.0))[:, 0]
    assert far[0] > far[1] > far[2]
