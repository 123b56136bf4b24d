"""The score against the number of members, exact and drawn; one wide network against many narrow ones."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import modelspace as ms
from modelspace import ModelspaceError
from modelspace.data import Split
from modelspace.ensemble import curve, equal_budget

SPACE = ms.ModelSpace(nn.Linear, in_features=3, out_features=1)


@pytest.fixture
def given():
    x = torch.randn(50, 3)
    return ms.Ensemble(SPACE.sample(seeds=6), loss="mse"), Split(x, torch.randn(50, 1))


def test_a_curve_is_the_mean_over_all_subsets(given):
    ensemble, split = given
    table = curve(ensemble, split)
    with torch.no_grad():
        z = ensemble.outputs(split.inputs).double()
    for m in (1, 2, 5, 6):
        expected = [
            float((z[list(s)].mean(0) - split.labels).square().mean()) for s in combinations(range(6), m)
        ]
        assert table.score[m] == pytest.approx(np.mean(expected), rel=1e-6)
        assert table.subsets[m] == len(expected)
    assert table.exact.all()
    assert (table.error == 0).all()
    assert (np.diff(table.score) < 0).all()  # Jensen: a mean over more members is never worse on average
    # Of squared error, exactly linear in 1/m.
    slope = np.diff(table.score) / np.diff(1 / table.index)
    assert slope == pytest.approx(np.full(5, slope[0]), rel=1e-4)
    assert table.attrs == {"metric": "mse"}


def test_drawn_subsets_have_an_error_that_covers(given):
    ensemble, split = given
    exact = curve(ensemble, split, sizes=[3]).score[3]
    drawn = [curve(ensemble, split, sizes=[3], subsets=15, seed=seed).loc[3] for seed in range(60)]
    assert not drawn[0].exact
    away = np.array([(each.score - exact) / each.error for each in drawn])
    assert 0.85 <= (np.abs(away) < stats.t(14).ppf(0.975)).mean() <= 1
    assert away.std() == pytest.approx(1, abs=0.35)
    assert curve(ensemble, split, sizes=[3], subsets=15, seed=0).score[3] == drawn[0].score
    with pytest.raises(ModelspaceError, match=r"sizes are from 1 to 6, the members; received \[7\]"):
        curve(ensemble, split, sizes=[7])


class Net(nn.Sequential):
    def __init__(self, width=8):
        super().__init__(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 2))


def test_equal_budgets_are_equal(checked_once):
    x = torch.randn(120, 4)
    data = ms.data.load((x, (x[:, 0] > 0).long()))
    family = ms.Family(Net, width=[8, 16], input_shape=(4,), memory=False)
    table = equal_budget(
        family,
        data,
        sizes=(1, 4),
        ensembles=3,
        columns={"lr": [1e-9, 3e-2]},
        epochs=6,
        plan={"lowering": "vmap", "compile": False, "workers": 1, "shard": 8},
    )
    assert table.index.tolist() == [1, 4]
    assert table.width[1] == 16
    assert table.parameters[1] == 7 * 16 + 2
    assert table.parameters[4] == pytest.approx(table.parameters[1], rel=0.06)
    assert table.width[4] == 4
    assert table.flops[4] == pytest.approx(table.flops[1], rel=0.1)
    assert table.lr.tolist() == [3e-2, 3e-2]
    assert table.ensembles.tolist() == [3, 3]
    assert (table.error > 0).all()
    assert (table.score < 0.6).all()  # log 2 is that of members that have not moved
    assert table.attrs == {"metric": "log_loss"}
    with pytest.raises(ModelspaceError, match="out of reach"):
        equal_budget(family, data, sizes=(1000,), epochs=1)
