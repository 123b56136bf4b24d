"""Statistics of seeds and settings, held against NumPy, SciPy, hands and simulated seeds."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from modelspace.runs import (
    RANDOM,
    Distribution,
    Status,
    best_of,
    quantiles,
    response,
    responses_of,
    settings_of,
)

FIN, DIV, STO, UN = "finished", "diverged", "stopped early", "unfinished"


def test_states_are_words_and_numbers():
    assert [status.value for status in Status] == [UN, FIN, DIV, STO]
    assert [status.code for status in Status] == [0, 1, 2, 3]


def test_members_that_differ_in_randomness_alone_are_one_setting():
    table = pd.DataFrame(
        {
            "seed": [0, 1, 2, 3, 4],
            "betas": [(0.9, 0.99), (0.8, 0.9), (0.9, 0.99), (0.8, 0.9), (0.9, 0.99)],
            "data_seed": [4, 4, 5, 5, 6],
            "label_noise": [np.nan, 0.1, np.nan, 0.1, 0.2],
            "source": ["a", "b", "c", "d", "e"],
        }
    )
    found = [(s.columns["betas"], s.rows.tolist()) for s in settings_of(table)]
    assert found == [((0.9, 0.99), [0, 2]), ((0.8, 0.9), [1, 3]), ((0.9, 0.99), [4])]
    assert [s.rows.tolist() for s in settings_of(table[list(RANDOM)])] == [[0, 1, 2, 3, 4]]
    assert settings_of(table[:0]) == []
    assert all(
        type(v) is int for s in settings_of(pd.DataFrame({"depth": [1, 2]})) for v in s.columns.values()
    )


@pytest.mark.parametrize(
    ("scores", "status", "higher", "expected"),
    [
        ([3, 1, 2, 5, 4], [FIN] * 5, True, (2, 3, 4, 5, 5, 0)),
        ([3, 1, 2, 5, 4], [FIN, FIN, DIV, FIN, STO], True, (1, 3, 4, 5, 5, 1)),
        ([3, 1, 2, 5, 4], [FIN, FIN, DIV, FIN, DIV], False, (3, 5, np.inf, 5, 5, 2)),
        ([3, np.nan, 2, 5, 4], [FIN] * 5, True, (2, 3, 4, 5, 5, 0)),  # without a score it is the worst
        ([3, 1, 2, 5, np.nan], [FIN, FIN, FIN, UN, UN], True, (1, 2, 3, 5, 3, 0)),  # unknown is not the worst
        ([np.nan] * 2, [UN, DIV], False, (np.inf, np.inf, np.inf, 2, 1, 1)),
        ([np.nan] * 2, [UN, UN], False, (np.nan, np.nan, np.nan, 2, 0, 0)),
    ],
)
def test_a_response_by_hand(scores, status, higher, expected):
    found = response(np.array(scores, float), np.array(status, dtype=object), higher_is_better=higher)
    np.testing.assert_equal(tuple(found), expected)


def test_the_best_setting_has_the_best_median_and_equals_are_the_first():
    table = pd.DataFrame({"seed": [0, 1] * 4, "lr": np.repeat([1.0, 2.0, 3.0, 4.0], 2)})
    scores = np.array([0.2, 0.2, 0.3, 0.3, 0.1 + 0.2, 0.3, 9.0, 9.0])
    status = np.array([FIN] * 6 + [DIV] * 2, dtype=object)
    settings, found = responses_of(table, scores, status, higher_is_better=True)
    assert [s.columns for s in settings] == [{"lr": v} for v in (1.0, 2.0, 3.0, 4.0)]
    assert best_of(found, higher_is_better=True) == 1
    assert (
        best_of(responses_of(table, scores, status, higher_is_better=False)[1], higher_is_better=False) == 0
    )
    assert best_of(found[3:], higher_is_better=True) is best_of([], higher_is_better=True) is None


def test_a_distribution_is_numpy_s_over_those_that_ended_well():
    x = np.random.default_rng(0).normal(size=40)
    status = np.array([FIN, STO] * 15 + [DIV] * 6 + [UN] * 4, dtype=object)
    own = x[:30].copy()
    x[29] = np.nan  # it ended without a score
    own = own[:29]
    d = Distribution.of(x, status)
    assert (d.n, d.diverged) == (29, 6)
    found = [d.mean, d.sd, d.min, d.q1, d.median, d.q3, d.max]
    np.testing.assert_allclose(
        found, [own.mean(), own.std(ddof=1), *np.quantile(own, [0, 0.25, 0.5, 0.75, 1])]
    )
    np.testing.assert_allclose(d.interval, stats.ttest_1samp(own, 0).confidence_interval(0.95))


def test_a_distribution_of_few():
    assert Distribution.of([]) == Distribution.of([np.nan]) == Distribution(0, 0)
    one = Distribution.of([0.5])
    assert (one.n, one.mean, one.sd, one.interval) == (1, 0.5, None, None)
    assert Distribution.of([0.25, 0.75]).interval == pytest.approx(
        (0.5 - 12.7062 * 0.25, 0.5 + 12.7062 * 0.25), rel=1e-4
    )
    assert str(Distribution.of([0.5])).startswith("0.5000 ± – (mean ± SD of 1 seeds), median 0.5000")


def test_an_infinite_score_counts():
    d = Distribution.of([1.0, 2.0, np.inf, 3.0])
    assert (d.n, d.mean, d.sd, d.interval) == (4, np.inf, None, None)
    assert (d.min, d.q1, d.median, d.q3, d.max) == (1.0, 2.0, 3.0, 3.0, np.inf)


@pytest.mark.parametrize("n", [2, 3, 8, 64])
def test_the_interval_covers_the_mean_in_95_of_100_repetitions(n):
    chance, repetitions = np.random.default_rng(n), 2000
    low, high = np.transpose(
        [Distribution.of(chance.normal(0.8, 0.05, n)).interval for _ in range(repetitions)]
    )
    covered = int(((low <= 0.8) & (high >= 0.8)).sum())
    assert stats.binomtest(covered, repetitions, 0.95).pvalue > 1e-4
    assert abs(covered / repetitions - 0.95) < 0.02


def test_quantiles_epoch_by_epoch():
    values = np.array([[1.0, np.nan, np.inf], [3.0, np.nan, 5.0], [2.0, np.nan, 1.0], [np.nan] * 3])
    found = quantiles(values, [0.25, 0.5, 1])
    np.testing.assert_array_equal(found, [[1.5, np.nan, 1.0], [2.0, np.nan, 5.0], [3.0, np.nan, np.inf]])
    assert quantiles(values[:0], [0.5]).shape == (1, 3)
    np.testing.assert_array_equal(quantiles(np.array([4.0, np.nan, 2.0]), [0.5]), [3.0])
