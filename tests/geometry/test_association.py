"""Correlations against scipy's and by simulation: intervals that cover, groups and columns that are taken out."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import modelspace as ms
from modelspace.geometry import association

NOTHING = pd.DataFrame()


def made(x, y, given=None, **options):
    return association(
        pd.Series(x, name="top"), pd.Series(y, name="accuracy"), pd.DataFrame(given or {}), **options
    )


def correlated(n, r, seed):
    a, b = np.random.default_rng(seed).standard_normal((2, n))
    return a, r * a + (1 - r**2) ** 0.5 * b


def test_pearson_and_spearman_are_scipy_s():
    x, y = correlated(40, -0.6, 0)
    found = made(x, np.exp(y))
    pearson, spearman = stats.pearsonr(x, np.exp(y)), stats.spearmanr(x, np.exp(y))
    assert (found.r, found.rank) == pytest.approx((pearson.statistic, spearman.statistic))
    assert found.interval == pytest.approx(tuple(pearson.confidence_interval(0.95)))  # Fisher's too
    assert (found.n, found.given, found.level) == (40, (), 0.95)
    assert made(x, np.exp(y), level=0.8).interval[0] > found.interval[0]


@pytest.mark.parametrize(
    "kind", ["plain", *(pytest.param(k, marks=pytest.mark.slow) for k in ("groups", "linear"))]
)
def test_intervals_cover(kind):
    """95 ± 3 % of 400 studies, Spearman's of ρ_s = 6/π asin(ρ/2); also where a column moves both."""
    n, r, covered = 48, 0.5, []
    groups = np.repeat(range(6), 8)
    for seed in range(400):
        x, y = correlated(n, r, seed)
        slope = np.random.default_rng(seed).uniform(size=n)
        given = {"plain": {}, "groups": {"lr": groups}, "linear": {"size": slope}}[kind]
        moved = {"plain": 0, "groups": np.array([0, 5, -3, 8, 1, -20])[groups], "linear": -9 * slope}[kind]
        found = made(x + moved, y + moved, given)
        spearman = 6 / np.pi * np.arcsin(r / 2)
        ends = (found.interval, r), (found.rank_interval, spearman)
        covered.append([low <= exact <= high for (low, high), exact in ends])
    share = np.mean(covered, 0)
    assert 0.92 <= share[0] <= 0.98
    if kind == "plain":  # ranks over groups that were moved apart are no longer those of normal numbers
        assert 0.92 <= share[1] <= 0.98


def test_what_both_follow_is_taken_out():
    rng = np.random.default_rng(0)
    lr = np.repeat([1e-3, 1e-2, 1e-1, 1.0], 16)
    x, y = 1 / lr + rng.standard_normal(64), np.log(lr) + rng.standard_normal(64)
    assert made(x, y).rank < -0.6
    found = made(x, y, {"lr": lr})
    assert found.interval[0] < 0 < found.interval[1]
    reach = stats.norm.ppf(0.975) / (64 - 3 - 3) ** 0.5
    assert np.arctanh(found.interval) - np.arctanh(found.r) == pytest.approx([-reach, reach])
    assert found.given == ("lr",)
    assert "at equal lr" in str(found)


def test_members_without_a_finite_score_are_left_out():
    x, y = correlated(12, 0.9, 1)
    found = made([*x, 1.0, np.nan], [*y, np.inf, 2.0], {"lr": [*np.linspace(0, 1, 14) ** 2]})
    alone = made(x, y, {"lr": [*np.linspace(0, 1, 14)[:12] ** 2]})
    assert (found.n, found.r, found.rank) == (12, pytest.approx(alone.r), pytest.approx(alone.rank))


def test_perfect_and_constant():
    found = made([1, 2, 3, 4, 5], [2, 4, 6, 8, 10])
    assert (found.r, found.interval) == (pytest.approx(1), pytest.approx((1, 1)))
    assert np.isnan(made([1, 2, 3, 4, 5], [2.0] * 5).r)


@pytest.mark.parametrize(
    ("x", "given", "message"),
    [
        ([1, 2, 3], {}, "a correlation of top and accuracy needs 4 members that have both; received 3"),
        ([1, 2, 3, 4, np.nan], {"lr": [1, 3, 2, 4, 9]}, "accuracy at equal lr needs 5 members .* received 4"),
        (
            [1, 2, 3, 4, 5, 6],
            {"lr": [1, 1, 1, 2, 2, 2], "wd": list("abcabc")},
            "equal lr, wd needs 7 members",
        ),
    ],
)
def test_too_few_members_are_refused_in_a_line(x, given, message):
    with pytest.raises(ms.ModelspaceError, match=message):
        made(x, range(len(x)), given)
