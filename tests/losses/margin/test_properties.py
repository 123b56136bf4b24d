"""What the margin losses say of themselves, against what a machine finds from their formulas alone."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from losses.margin.formulas import CASES, formula

from modelspace.losses import CATALOGUE, Asymmetric, BinaryFocal, BinaryPoly1

SIGNS = (1, -1)
STATED = [(loss, loss.properties) for loss in CASES]
PROBABILITIES = np.array([0.03, 0.1, 0.2, 0.35, 0.495, 0.505, 0.65, 0.8, 0.9, 0.94])
# The losses' kinks, whole numbers, lie on this grid.
GRID = np.arange(-12 * 256, 12 * 256 + 1) / 256


def steepest(loss, width, step):
    """The largest difference quotient of ℓ between neighbours of a grid, which bounds those of all its pairs."""
    z = np.arange(-width, width + step / 2, step)
    return max(np.abs(np.diff(formula(loss)(z, y)) / step).max() for y in SIGNS)


def most_curved(loss, width, step):
    """The largest second difference quotient of ℓ."""
    z = np.arange(-width, width + step / 2, step)
    return max(np.abs(np.diff(formula(loss)(z, y), 2) / step**2).max() for y in SIGNS)


def constant(near, finer):
    """What two looks say: the finer one, or infinity where it finds three times as much."""
    return math.inf if finer > 3 * near else finer


def lipschitz(loss):
    return constant(steepest(loss, 5, 1e-3), steepest(loss, 30, 1e-3))


def smooth(loss):
    wider = constant(most_curved(loss, 5, 1e-3), most_curved(loss, 30, 1e-3))
    return constant(wider, max(wider, most_curved(loss, 5, 1e-5)))


def convex(loss):
    """No midpoint above its chord: second differences at two distances."""
    for step in (1, 32):
        z = GRID[::step]
        for y in SIGNS:
            if (np.diff(formula(loss)(z, y), 2) < -1e-11).any():
                return False
    return True


def bound(loss):
    """The largest value, or infinity where ten times farther out there is three times as much."""
    near, far = (max(formula(loss)(np.array([-r, r]), y).max() for y in SIGNS) for r in (30.0, 300.0))
    return math.inf if far > 3 * near else max(far, float(formula(loss)(np.array([-1e8]), 1).max()))


def risks(loss, p, z=GRID):
    """The conditional risk [p, z]."""
    value = formula(loss)
    return p[:, None] * value(z, 1) + (1 - p[:, None]) * value(z, -1)


def calibrated(loss):
    """No score of the wrong sign, nor 0, is as good as the best one (Bartlett, Jordan, McAuliffe 2006)."""
    risk = risks(loss, PROBABILITIES)
    wrong = GRID[None] * (2 * PROBABILITIES[:, None] - 1) <= 0
    best_wrong = np.where(wrong, risk, np.inf).min(1)
    return bool((best_wrong > risk.min(1) + 1e-9).all())


def proper(loss):
    """Whether the best score of the grid stands for p itself."""
    best = torch.from_numpy(GRID[risks(loss, PROBABILITIES).argmin(1)])
    found = loss.probability(best)
    return None if found is None else bool((found - torch.from_numpy(PROBABILITIES)).abs().max() < 3e-3)


def agree(stated, found):
    return stated == found if math.inf in (stated, found) else found == pytest.approx(stated, rel=1e-3)


@pytest.mark.parametrize("loss", CASES, ids=str)
def test_every_cell_is_what_a_machine_finds(loss):
    stated = loss.properties
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        assert agree(stated.lipschitz, lipschitz(loss))
        assert agree(stated.smooth, smooth(loss))
        assert agree(stated.bound, bound(loss))
    assert stated.convex == convex(loss)
    assert stated.calibrated == calibrated(loss)
    assert stated.proper == proper(loss)


def test_a_false_cell_does_not_agree():
    stated = CATALOGUE["logistic"].properties
    loss = CATALOGUE["logistic"]
    false = replace(stated, lipschitz=1.002, smooth=0.2505, convex=False, calibrated=False, proper=False)
    assert not agree(false.lipschitz, lipschitz(loss))
    assert not agree(false.smooth, smooth(loss))
    assert not agree(math.inf, lipschitz(loss))
    assert (convex(loss), calibrated(loss), proper(loss)) != (false.convex, false.calibrated, false.proper)
    assert not convex(CATALOGUE["ramp"])
    assert not calibrated(CATALOGUE["perceptron"])
    assert not proper(BinaryFocal(2.0))
    assert not agree(2.0, bound(CATALOGUE["ramp"]))


# Convex or not, Lipschitz constants, smoothness, bound, calibration, minimiser at 0.8, properness: the literature's.
INF = math.inf
TABLE = {
    "logistic": (True, 1, 0.25, INF, True, math.log(4), True),
    "hinge": (True, 1, INF, INF, True, 1, None),
    "squared_hinge": (True, INF, 2, INF, True, 0.6, True),
    "modified_huber": (True, 4, 2, INF, True, 0.6, True),
    "squared_margin": (True, INF, 2, INF, True, 0.6, True),
    "exponential": (True, INF, INF, INF, True, 0.693, True),
    "perceptron": (True, 1, INF, INF, False, 0, None),
    "ramp": (False, 1, INF, 1, True, 1, None),
    "savage": (False, 0.296, 0.154, 1, True, math.log(4), True),
    "tangent": (False, 6.2, None, 17.15, True, 0.309, True),
    "binary_focal": (False, 1.13, None, INF, True, 0.517, False),
    "binary_poly1": (True, 1, None, INF, True, 1.888, False),
}


@pytest.mark.parametrize("name", TABLE)
def test_agrees_with_the_published_table(name):
    loss = CATALOGUE[name]
    stated, expected = loss.properties, TABLE[name]
    assert (stated.convex, stated.calibrated, stated.proper) == (expected[0], expected[4], expected[6])
    assert stated.lipschitz == pytest.approx(expected[1], rel=0.01)
    assert (
        stated.smooth < INF if expected[2] is None else stated.smooth == pytest.approx(expected[2], rel=0.01)
    )
    assert stated.bound == pytest.approx(expected[3], rel=1e-3)
    best = loss.minimiser(torch.tensor([0.8], dtype=torch.float64))
    assert best.item() == pytest.approx(expected[5], abs=1e-3)


@pytest.mark.parametrize("loss", CASES, ids=str)
def test_the_minimiser_is_the_best_of_a_grid_of_scores(loss):
    found = loss.minimiser(torch.from_numpy(PROBABILITIES)).numpy()
    risk = risks(loss, PROBABILITIES)
    for k, (p, z) in enumerate(zip(PROBABILITIES, found.clip(GRID[0], GRID[-1]), strict=True)):
        own = risks(loss, np.array([p]), np.array([z])).item()
        assert own <= risk[k].min() + 1e-9
        best = GRID[risk[k] <= risk[k].min() + 1e-12]
        assert np.abs(z - best).min() <= 1 / 256


@pytest.mark.parametrize("loss", [c for c, p in STATED if p.proper], ids=str)
def test_a_proper_loss_s_minimiser_stands_for_p(loss):
    p = torch.linspace(0.02, 0.98, 49, dtype=torch.float64)
    found = loss.probability(loss.minimiser(p))
    torch.testing.assert_close(found, p, rtol=1e-7, atol=1e-7)


def test_where_a_negative_s_loss_is_bounded_a_sure_positive_has_no_finite_score():
    p = torch.tensor([0.5, 0.999], dtype=torch.float64)
    found = Asymmetric().minimiser(p)
    assert found[0].isfinite()
    assert found[1] == math.inf
    far = [risks(Asymmetric(), p.numpy(), np.array([z]))[1, 0] for z in (5.0, 10.0, 15.0)]
    assert far[0] > far[1] > far[2]


@pytest.mark.parametrize("loss", [c for c, p in STATED if p.convex and c.name != "asymmetric"], ids=str)
def test_convex_and_calibrated_just_where_the_slope_at_nought_is_negative(loss):
    h = 1e-7
    value = formula(loss)
    left, right = ((value(0.0, 1) - value(-h, 1)) / h, (value(h, 1) - value(0.0, 1)) / h)
    differentiable = abs(left - right) < 1e-4
    assert loss.properties.calibrated == (differentiable and right < -1e-3)


@pytest.mark.parametrize("loss", [c for c, p in STATED if p.convex], ids=str)
@given(st.floats(-60, 60), st.floats(-60, 60), st.floats(0, 1), st.sampled_from(SIGNS))
@settings(max_examples=40, deadline=None)
def test_convex_losses_lie_below_their_chords(loss, a, b, t, y):
    z = torch.tensor([a, b, t * a + (1 - t) * b], dtype=torch.float64)
    left, right, between = loss(z, torch.full_like(z, y), reduction="none").tolist()
    chord = t * left + (1 - t) * right
    assert between <= chord + 1e-9 * (1 + abs(chord))


@pytest.mark.parametrize(
    ("loss", "constant"), [(c, p.lipschitz) for c, p in STATED if p.lipschitz < INF], ids=str
)
@given(st.floats(-1000, 1000), st.floats(-1000, 1000), st.sampled_from(SIGNS))
@settings(max_examples=40, deadline=None)
def test_no_chord_is_steeper_than_the_constant(loss, constant, a, b, y):
    z = torch.tensor([a, b], dtype=torch.float64)
    left, right = loss(z, torch.full_like(z, y), reduction="none").tolist()
    assert abs(left - right) <= constant * abs(a - b) * (1 + 1e-9) + 1e-9


@given(st.floats(0, 8))
@settings(max_examples=15, deadline=None)
def test_constants_of_poly1_hold_for_every_epsilon(epsilon):
    loss = BinaryPoly1(epsilon)
    assert agree(loss.properties.lipschitz, steepest(loss, 30, 1e-3))
    assert loss.properties.smooth == pytest.approx(most_curved(loss, 30, 1e-3), rel=1e-3)
    assert loss.properties.convex == (epsilon <= 1)
