"""The statistics of pairs, against exact probabilities, SciPy, and simulated studies of a known truth."""

import numpy as np
import pytest
from scipy import stats

from modelspace import ModelspaceError, pairs_needed
from modelspace.compare.pairs import paired
from modelspace.compare.superiority import (
    evidence,
    exact_interval,
    holm,
    mean_reach,
    more_pairs,
    sequential_interval,
    variance_components,
    verdicts,
)

TRUE = [0.5, 0.6, 0.75, 0.9]
STUDIES, PAIRS = 10_000, 256


@pytest.mark.parametrize("n", [1, 7, 29, 256])
def test_the_fixed_interval_is_clopper_and_pearson_s(n):
    won = np.arange(n + 1)
    low, high = exact_interval(won, n)
    for w in won:
        expected = stats.binomtest(int(w), n).proportion_ci(0.95, method="exact")
        assert (low[w], high[w]) == pytest.approx(tuple(expected), abs=1e-9)


@pytest.mark.parametrize("p", TRUE)
@pytest.mark.parametrize("n", [10, 29, 100, 722, 5000])
def test_the_fixed_interval_covers(p, n):
    """The probability that it holds p, summed over outcomes: at least 95 %, at 5,000 pairs no more than 95.5 %."""
    won = np.arange(n + 1)
    low, high = exact_interval(won, n)
    covered = stats.binom.pmf(won, n, p)[(low <= p) & (p <= high)].sum()
    assert covered >= 0.95 - 1e-9
    assert n < 5000 or covered <= 0.955


def test_the_fixed_interval_covers_where_there_are_ties():
    generator = np.random.default_rng(0)
    for chances in ([0.3, 0.4, 0.3], [0.1, 0.2, 0.7]):
        won = generator.choice([0.0, 0.5, 1.0], (STUDIES, 60), p=chances).sum(1)
        low, high = exact_interval(won, 60)
        p = chances[2] + chances[1] / 2
        assert ((low <= p) & (p <= high)).mean() >= 0.95


def _studies(p, ties=0.0):
    """How many of the first n pairs A won in each study, for every n."""
    generator = np.random.default_rng(round(1000 * p))
    won = (generator.random((STUDIES, PAIRS)) < p).astype(float)
    won[generator.random(won.shape) < ties] = 0.5
    return won.cumsum(1), np.arange(1, PAIRS + 1)


@pytest.mark.parametrize("p", TRUE)
def test_the_sequential_interval_misses_in_five_percent_of_studies_under_continuous_looking(p):
    won, n = _studies(p)
    missed = (evidence(won, n, p) >= np.log(20)).any(1)
    assert missed.mean() <= 0.05
    assert missed.mean() > 0.005  # it is no wider than it has to be


@pytest.mark.parametrize("p", TRUE)
def test_false_verdicts_are_few_however_often_one_looks(p):
    """'A' or 'B' where neither is better, 'B' where A is: the first verdict that stands is the study's."""
    won, n = _studies(p)
    said = verdicts(*sequential_interval(won[:500], n))
    stands = said != "not separable"
    first = said[np.arange(500), np.where(stands.any(1), stands.argmax(1), PAIRS - 1)]
    assert np.isin(first, ["A", "B"] if p == 0.5 else ["B"]).mean() <= 0.05
    assert p < 0.9 or (first == "A").mean() > 0.99


def test_the_sequential_interval_holds_where_there_are_ties():
    won, n = _studies(0.5, ties=0.4)
    assert (evidence(won, n, 0.5) >= np.log(20)).any(1).mean() <= 0.05


def test_the_sequential_interval_is_where_the_evidence_reaches_its_bound():
    for won, n in ((29, 29), (12.5, 30), (0, 8), (100, 256)):
        low, high = sequential_interval(won, n)
        ends = [end for end in (low, high) if 0 < end < 1]
        assert evidence(won, n, np.array(ends)) == pytest.approx(np.full(len(ends), np.log(20)), abs=1e-6)
        fixed = exact_interval(won, n)
        assert low <= fixed[0]
        assert high >= fixed[1]  # what holds at all numbers of pairs is wider than what holds at one


@pytest.mark.parametrize("sequential", [False, True])
def test_the_interval_of_the_mean_covers(sequential):
    generator = np.random.default_rng(3)
    x = generator.normal(0.3, 2, (STUDIES if not sequential else 2000, 64))
    numbers = range(2, 65) if sequential else (5, 64)
    missed = []
    for n in numbers:
        mean, sd = x[:, :n].mean(1), x[:, :n].std(1, ddof=1)
        missed.append(abs(mean - 0.3) > mean_reach(1.0, n, sequential=sequential) * sd)
    if sequential:
        assert np.any(missed, 0).mean() <= 0.05
    else:
        assert np.mean(missed, 1) == pytest.approx([0.05, 0.05], abs=0.005)
        assert mean_reach(2.0, 9, sequential=False) == pytest.approx(stats.t.ppf(0.975, 8) * 2 / 3)


def test_pairs_that_are_needed_are_noether_s():
    """The published table: 29 for P = 0.75, 81 for 0.65, 722 for 0.55, at α = β = 0.05."""
    assert [pairs_needed(p) for p in (0.75, 0.65, 0.55, 0.25)] == [29, 81, 722, 29]
    with pytest.raises(ModelspaceError, match="other than ½"):
        pairs_needed(0.5)


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize(("won", "n"), [(20, 30), (9, 16), (7, 14)])
def test_so_many_more_pairs_tell(won, n, sequential):
    more = more_pairs(won, n, 0.75, 0.05, sequential=sequential)
    interval = sequential_interval if sequential else exact_interval
    said = [str(verdicts(*interval(won / n * (n + k), n + k))) for k in (more - 1, more)]
    assert said[0] == "not separable" != said[1]


def test_verdicts_by_the_interval():
    low = [0.55, 0.55, 0.1, 0.3, 0.4, 0.2]
    high = [0.9, 0.7, 0.4, 0.7, 0.8, 0.49]
    assert verdicts(low, high).tolist() == ["A", "equal", "B", "equal", "not separable", "B"]


def test_holm_s_family_error():
    """The textbook's example, and: of 10 true hypotheses any is refused in 5 % of families."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    p = np.random.default_rng(0).random((2000, 10))
    assert np.mean([min(holm(row)) <= 0.05 for row in p]) == pytest.approx(0.05, abs=0.012)


@pytest.mark.parametrize("sources", [("seed",), ("seed", "data_seed"), ("seed", "data_seed", "split")])
def test_variance_components_are_unbiased_and_their_errors_right(sources):
    generator, sizes = np.random.default_rng(1), (5, 4, 6)[: len(sources)]
    true = dict(zip(sources, (4.0, 1.0, 0.25), strict=False))
    found = []
    for _ in range(600):
        scores = np.full(sizes, 3.0)
        for axis, name in enumerate(sources):
            shape = [1] * len(sizes)
            shape[axis] = sizes[axis]
            scores = scores + generator.normal(0, true[name] ** 0.5, sizes[axis]).reshape(shape)
        if len(sources) > 1:
            scores = scores + generator.normal(0, 0.7, sizes)
        found.append(variance_components(scores, sources))
    expected = true | ({"interactions": 0.49} if len(sources) > 1 else {})
    assert found[0].keys() == expected.keys()
    for name, value in expected.items():
        estimates, errors = np.array([each[name] for each in found]).T
        assert abs(estimates.mean() - value) < 4 * estimates.std() / 600**0.5
        # The squared error is unbiased too.
        assert (errors**2).mean() ** 0.5 == pytest.approx(estimates.std(), rel=0.2)


def test_variance_components_of_noise_alone_are_its_variance():
    scores = np.random.default_rng(2).normal(0, 2, (40, 40))
    found = variance_components(scores, ("a", "b"))
    assert found["interactions"][0] == pytest.approx(4, rel=0.15)
    assert abs(found["a"][0]) < 4 * found["a"][1]


def test_a_difference_within_delta_is_equal():
    scores = dict(enumerate(np.random.default_rng(0).normal(0.9, 0.001, 40)))
    other = {k: v + 0.0001 * (-1) ** k for k, v in scores.items()}
    assert paired(("a", "b"), scores, other).verdict == "equal"
    few = {k: other[k] for k in range(10)}
    assert paired(("a", "b"), scores, few).verdict == "not separable"
    assert paired(("a", "b"), scores, few, equal_within=0.001).verdict == "equal"
    lower = paired(("a", "b"), {k: v + 0.01 for k, v in other.items()}, scores, higher_is_better=False)
    assert (lower.verdict, lower.better, lower.wins) == ("B", "b", 0)
    assert lower.difference > 0
