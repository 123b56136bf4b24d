import numpy as np
import pytest
from scipy import stats

from modelspace.errors import ModelspaceError
from modelspace.search._rungs import contenders, lengths, survivors


def test_lengths_are_powers_of_the_reduction_down_from_the_whole_fit():
    assert lengths(81, "halving", 3, 5) == [1, 3, 9, 27, 81]
    assert lengths(16, "median", 2, 3) == [4, 8, 16]
    assert lengths(2, "halving", 3, 5) == [1, 2]
    assert lengths(20, None, 3, 3) == [20]
    with pytest.raises(ModelspaceError, match="did you mean 'halving'"):
        lengths(9, "halvin", 3, 3)
    with pytest.raises(ModelspaceError, match="reduction ≥ 2 and rungs ≥ 2; received reduction=1"):
        lengths(9, "halving", 1, 3)


def plainly_halved(scores, reduction):
    """Successive halving as Jamieson and Talwalkar write it: sort, keep the best n/η."""
    order = sorted(range(len(scores)), key=lambda i: scores[i], reverse=True)
    return sorted(order[: -(-len(scores) // reduction)])


def test_halving_is_that_of_a_plain_loop():
    random = np.random.default_rng(0)
    for _ in range(200):
        scores, reduction = random.random(int(random.integers(1, 30))).tolist(), int(random.integers(2, 5))
        assert survivors(scores, [0.5] * 9, "halving", reduction) == plainly_halved(scores, reduction)


def test_nobody_who_diverged_goes_on():
    inf = np.inf
    assert survivors([-inf, 0.2, -inf, -inf], [], "halving", 2) == [1]
    assert survivors([-inf, -inf], [], "halving", 2) == survivors([-inf, -inf], [], "median", 2) == []


def test_the_median_is_of_all_who_were_ever_there():
    assert survivors([0.1, 0.5, 0.9], [], "median", 3) == [1, 2]
    assert survivors([0.1, 0.5, 0.9], [0.95, 0.96, 0.97], "median", 3) == [2]
    assert survivors([0.1, 0.5, 0.9], [0.0, 0.0, 0.0], "median", 3) == [0, 1, 2]


def test_contenders_are_those_whose_paired_interval_reaches_zero():
    random, near = np.random.default_rng(1), 0
    for _ in range(50):
        levels = np.array([[0.9], [0.895], [0.88], [0.86], [0.8], [0.7]])
        values = random.normal(0, 0.02, (6, 5)) + levels
        found = contenders({i: dict(enumerate(row)) for i, row in enumerate(values)}, 6)
        best = int(values.mean(1).argmax())
        others = [i for i in range(6) if i != best]
        apart = values[best] - values[others]
        error = np.sqrt(apart.var(axis=1, ddof=1).mean() / 5)  # pooled: all have as many seeds
        p = 2 * stats.t.sf(np.abs(apart.mean(1)) / error, 5 * 4)
        assert found[0] == best
        assert {*found[1:]} == {i for i, own in zip(others, p, strict=True) if own >= 0.05}
        near += len(found) - 1
    assert 50 < near < 200


def test_contenders_pair_by_seed_and_are_few():
    # The same differences from seed to seed: exactly apart, whatever the seeds' own spread.
    assert contenders({0: {0: 0.9, 1: 0.5, 2: 0.7}, 1: {0: 0.89, 1: 0.49, 2: 0.69}}, 8) == [0]
    assert contenders({i: {0: 0.1 * i} for i in range(6)}, 3) == [5, 4, 3]  # one seed decides nothing
    assert contenders({0: {0: 0.9}, 1: {0: -np.inf}}, 3) == [0]
    assert contenders({0: {0: -np.inf}}, 3) == []
