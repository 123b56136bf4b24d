"""What the regression losses say of themselves, against what a machine finds from their formulas alone."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from losses.regression.formulas import (
    CASES,
    LOCATION_SCALES,
    LOG_MEANS,
    OF_RESIDUALS,
    formula,
    gaussian,
    labels,
    laplace,
)
from scipy.stats import cauchy

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
)

INF = math.inf


def sections(loss):
    """The loss along lines: of one output for a few labels; of two outputs, along each, the other held."""
    if loss.name in ("gaussian", "laplace"):
        density = gaussian if loss.name == "gaussian" else laplace
        return [lambda t: density(t, 0.0, 1.0), lambda t: density(0.0, t, 1.0)]
    return [lambda t, y=y: formula(loss)(t, y) for y in labels(loss)]


def along(width, step):
    return np.arange(-width, width + step / 2, step)


def steepest(loss, width, step):
    return max(np.abs(np.diff(line(along(width, step))) / step).max() for line in sections(loss))


def most_curved(loss, width, step):
    return max(np.abs(np.diff(line(along(width, step)), 2) / step**2).max() for line in sections(loss))


def constant(near, finer):
    """What two looks say: the finer one, or infinity where it finds three times as much."""
    return INF if finer > 3 * near else finer


def lipschitz(loss):
    near = steepest(loss, 5, 1e-3)
    return constant(near, max(near, steepest(loss, 600, 1e-2)))


def smooth(loss):
    near = most_curved(loss, 5, 1e-3)
    wider = constant(near, max(near, most_curved(loss, 600, 1e-1)))
    return constant(wider, max(wider, most_curved(loss, 5, 1e-5)))


def bound(loss):
    """The largest value, or infinity where ten times farther out there is half as much again."""
    near, far = (max(line(np.array([-r, r])).max() for line in sections(loss)) for r in (30.0, 300.0))
    return INF if far > 1.5 * near else far


def convex(loss):
    """No midpoint above its chord, along lines and, of two outputs, between any two points."""
    lines = [line(along(12, 1 / 64)[::jump]) for line in sections(loss) for jump in (1, 16)]
    if any((np.diff(values, 2) < -1e-10).any() for values in lines):
        return False
    if loss.name not in ("gaussian", "laplace"):
        return True
    density = gaussian if loss.name == "gaussian" else laplace
    a, b = np.random.default_rng(0).normal(size=(2, 1000, 2)) * 2
    middle = (a + b) / 2
    ends = (density(a[:, 0], a[:, 1], 0.0) + density(b[:, 0], b[:, 1], 0.0)) / 2
    return bool((density(middle[:, 0], middle[:, 1], 0.0) <= ends + 1e-10).all())


def agree(stated, found):
    return stated == found if INF in (stated, found) else found == pytest.approx(stated, rel=1e-3)


@pytest.mark.parametrize("loss", [*CASES, *LOCATION_SCALES], ids=str)
def test_every_cell_is_what_a_machine_finds(loss):
    stated = loss.properties
    assert agree(stated.lipschitz, lipschitz(loss))
    assert agree(stated.smooth, smooth(loss))
    assert agree(stated.bound, bound(loss))
    assert stated.convex == convex(loss)
    assert stated.calibrated is None
    assert stated.proper is None


def test_a_false_cell_does_not_agree():
    huber = replace(Huber(3.0).properties, lipschitz=3.01, smooth=0.99)
    assert not agree(huber.lipschitz, lipschitz(Huber(3.0)))
    assert not agree(huber.smooth, smooth(Huber(3.0)))
    assert not agree(INF, lipschitz(Huber(3.0)))
    assert not agree(1.0, lipschitz(LeastSquares()))
    assert not agree(1.0, smooth(Absolute()))
    assert not agree(INF, bound(Tukey()))
    assert convex(LogCosh())
    assert not convex(Cauchy())


SAMPLES = torch.tensor([-3.1, -0.7, -0.4, 0.05, 0.3, 0.9, 1.6, 2.2, 14.0], dtype=torch.float64)


@pytest.mark.parametrize("loss", OF_RESIDUALS, ids=str)
def test_the_minimiser_is_as_good_as_the_best_of_a_grid(loss):
    samples = SAMPLES.numpy()
    # Piecewise linear losses have their least value at a sample, or at its distance ε from one.
    grid = np.concatenate([np.linspace(-4, 15, 20_001), samples, samples - 0.5, samples + 0.5])
    risk = np.mean([formula(loss)(grid, y) for y in samples], axis=0)
    found = loss.minimiser(SAMPLES).item()
    own = np.mean([formula(loss)(found, y) for y in samples])
    assert own <= risk.min() + 1e-9
    best = grid[risk <= risk.min() + 1e-9]
    assert np.abs(best - found).min() < 2e-3


def test_minimisers_that_have_a_name():
    y = SAMPLES.numpy()
    named = [
        (LeastSquares(), y.mean()),
        (Absolute(), np.median(y)),
        (Pinball(0.3), np.quantile(y, 0.3, method="inverted_cdf")),
    ]
    for loss, expected in named:
        assert loss.minimiser(SAMPLES).item() == pytest.approx(expected)
    # Huber's: the mean of the labels, those beyond δ drawn to δ.
    z = Huber(1.0).minimiser(SAMPLES).item()
    assert z == pytest.approx(np.mean(np.clip(y, z - 1, z + 1)), abs=1e-9)
    r = y - PseudoHuber(2.0).minimiser(SAMPLES).item()
    assert (r / np.sqrt(1 + (r / 2) ** 2)).mean() == pytest.approx(0, abs=1e-9)
    z = EpsilonInsensitive(0.5).minimiser(SAMPLES).item()
    above, below = (y - z > 0.5 + 1e-9).sum(), (y - z < -0.5 - 1e-9).sum()
    assert abs(above - below) <= (np.abs(np.abs(y - z) - 0.5) <= 1e-9).sum()
    z = Cauchy(1.5).minimiser(SAMPLES).item()
    likelihood = cauchy.logpdf(SAMPLES.numpy()[:, None], loc=np.linspace(-3, 14, 17_001), scale=1.5).sum(0)
    assert z == pytest.approx(np.linspace(-3, 14, 17_001)[likelihood.argmax()], abs=1e-3)
    # Log-cosh: the mean of tanh(y − z) is 0.
    assert np.tanh(y - LogCosh().minimiser(SAMPLES).item()).mean() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("loss", LOG_MEANS, ids=str)
def test_the_minimiser_of_a_log_mean_is_the_logarithm_of_the_mean(loss):
    y = torch.tensor([1.0, 2.0, 2.0, 7.0], dtype=torch.float64)
    found = loss.minimiser(y).item()
    assert found == pytest.approx(math.log(3))
    grid = np.linspace(-1, 3, 4001)
    risk = np.mean([formula(loss)(grid, value) for value in y.numpy()], axis=0)
    assert grid[risk.argmin()] == pytest.approx(found, abs=1e-3)


@pytest.mark.parametrize("loss", LOCATION_SCALES, ids=str)
def test_the_minimiser_of_two_outputs_is_the_best_of_its_neighbourhood(loss):
    location, log_scale = loss.minimiser(SAMPLES).tolist()
    density = gaussian if loss.name == "gaussian" else laplace
    y = SAMPLES.numpy()[:, None, None]
    around = np.linspace(-2, 2, 401)
    risk = density(location + around[:, None], log_scale + around[None], y).mean(0)
    best = np.unravel_index(risk.argmin(), risk.shape)
    assert np.abs(around[list(best)]).max() < 1e-9
    slope = torch.autograd.functional.jacobian(
        lambda z: loss(z.expand(len(SAMPLES), 2), SAMPLES),
        torch.tensor([location, log_scale], dtype=torch.float64),
    )
    assert isinstance(slope, torch.Tensor)
    assert slope[1].abs() < 1e-12
    assert slope[0].abs() < (1e-12 if loss.name == "gaussian" else 1)


@pytest.mark.parametrize("loss", [c for c in CASES if c.properties.convex], ids=str)
@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(0, 1), st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_convex_losses_lie_below_their_chords(loss, a, b, t, which):
    z = torch.tensor([a, b, t * a + (1 - t) * b], dtype=torch.float64)
    left, right, between = loss(z, torch.full_like(z, labels(loss)[which]), reduction="none").tolist()
    chord = t * left + (1 - t) * right
    assert between <= chord + 1e-9 * (1 + abs(chord))


@pytest.mark.parametrize("loss", [c for c in CASES if c.properties.lipschitz < INF], ids=str)
@given(st.floats(-1000, 1000), st.floats(-1000, 1000))
@settings(max_examples=40, deadline=None)
def test_no_chord_is_steeper_than_the_constant(loss, a, b):
    z = torch.tensor([a, b], dtype=torch.float64)
    left, right = loss(z, torch.zeros(2), reduction="none").tolist()
    assert abs(left - right) <= loss.properties.lipschitz * abs(a - b) * (1 + 1e-9) + 1e-9


@given(st.floats(0.05, 20))
@settings(max_examples=20, deadline=None)
def test_constants_hold_for_every_scale(scale):
    for loss in (Huber(scale), Cauchy(scale), Tukey(scale)):
        r = scale * np.linspace(-40, 40, 80_001)
        slopes = np.abs(np.diff(formula(loss)(r, 0.0)) / np.diff(r))
        assert slopes.max() == pytest.approx(loss.properties.lipschitz, rel=1e-3)
    assert Tukey(scale)(torch.tensor([1e6]), torch.zeros(1)).item() == pytest.approx(
        Tukey(scale).properties.bound, rel=1e-5
    )


def test_likelihoods_are_those_of_densities_that_integrate_to_one():
    y = torch.linspace(-60, 60, 120_001, dtype=torch.float64)
    for loss in (Gaussian(), Laplace()):
        z = torch.tensor([[0.3, 0.7]], dtype=torch.float64).expand(len(y), 2)
        mass = torch.trapezoid((-loss(z, y, reduction="none")).exp(), y)
        assert mass.item() == pytest.approx(1, abs=1e-6)
    y = torch.linspace(1e-6, 80, 200_001, dtype=torch.float64)
    mass = torch.trapezoid((-Gamma(2.5)(torch.full_like(y, 0.7), y, reduction="none")).exp(), y)
    assert mass.item() == pytest.approx(1, abs=1e-6)
    counts = torch.arange(0, 60, dtype=torch.float64)
    assert (
        -Poisson()(torch.full_like(counts, 0.7), counts, reduction="none")
    ).exp().sum().item() == pytest.approx(1)
