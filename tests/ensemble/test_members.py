"""Selection on validation, snapshots, soups: against what they are by definition."""

import numpy as np
import pytest
import torch
from torch import nn

import modelspace as ms
from modelspace import ModelspaceError
from modelspace.data import Split
from modelspace.ensemble import select, snapshots, soup

PLAN = {"lowering": "vmap", "shard": 8, "compile": False, "workers": 1}
SPACE = ms.ModelSpace(nn.Linear, in_features=3, out_features=1, bias=False, input_shape=(3,))


def linear(*rows):
    """Members f(x) = w x with these weights."""
    points = torch.tensor(rows)
    return ms.Population(SPACE, points, {}, SPACE.sample(seeds=len(rows)).table)


@pytest.fixture
def split():
    x = torch.eye(3).repeat(4, 1)
    return Split(x, x @ torch.tensor([[1.0], [1.0], [1.0]]))  # the truth is w = (1, 1, 1)


def test_greedy_selection_repeats_members_and_stops_at_the_best(split):
    """The truth is (2 a + b) / 3; c and d lead away from it."""
    members = linear([1.5, 1.5, 0.0], [0.0, 0.0, 3.0], [9.0, 0.0, 0.0], [-5.0, 3.0, 4.0])
    found = select(ms.Ensemble(members, loss="mse"), split, size=8)
    assert sorted(found.order) == [0, 0, 1]
    assert found.ensemble.weights.tolist() == pytest.approx([2 / 3, 1 / 3])
    assert found.scores[-1] == pytest.approx(0, abs=1e-12)
    assert found.metric == "mse"
    assert torch.allclose(found.ensemble(split.inputs), split.labels, atol=1e-6)


def test_the_most_diverse(split):
    members = linear([1.0, 1.0, 1.1], [1.0, 1.0, 1.2], [1.0, 1.4, 1.0], [1.0, 1.0, 0.2])
    ensemble = ms.Ensemble(members, loss="mse")
    # By hand, from 0: the squared distances are 0.01, 0.17 and 0.81; then from 0 and 3: (0.01 + 1.00), (0.17 + 0.80).
    assert select(ensemble, split, 3, by="diversity").order == [0, 3, 1]
    assert select(ensemble, split, by="diversity").order == [0, 3]
    with pytest.raises(ModelspaceError, match="unknown selection 'greddy': did you mean 'greedy'"):
        select(ensemble, split, by="greddy")
    with pytest.raises(ModelspaceError, match="size is a number from 1 to 4; received 5"):
        select(ensemble, split, 5, by="diversity")


def test_classes_are_told_apart_by_what_is_chosen():
    space = ms.ModelSpace(nn.Linear, in_features=2, out_features=2, bias=False)
    points = torch.tensor([[5.0, 0, 0, 5], [5.0, 0, 0, 4], [0.0, 5, 0, 5]])
    ensemble = ms.Ensemble(
        ms.Population(space, points, {}, space.sample(seeds=3).table), loss="cross_entropy"
    )
    split = Split(torch.eye(2), torch.tensor([0, 1]))
    assert select(ensemble, split, 2, by="diversity").order == [0, 2]
    assert select(ensemble, split, 2, by="diversity", metric="accuracy").scores[0] == 1.0


def test_a_soup_is_the_mean_of_rows(split):
    members = linear([1.5, 1.5, 0.0], [0.5, 0.5, 2.0], [9.0, 0.0, 0.0])
    assert torch.allclose(soup(members[:2]).points, torch.ones(1, 3))
    assert torch.allclose(soup(members).points[0], members.points.mean(0))
    greedy = soup(members, split, how="greedy", loss="mse")
    assert sorted(greedy.table.ingredients[0]) == [0, 1]
    assert torch.allclose(greedy.points, torch.ones(1, 3))
    assert len(ms.Ensemble([members, greedy])) == 4
    with pytest.raises(ModelspaceError, match="give data"):
        soup(members, how="greedy")
    with pytest.raises(ModelspaceError, match="unknown soup 'gredy'"):
        soup(members, how="gredy")


def test_buffers_of_a_soup():
    space = ms.ModelSpace(lambda: nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
    population = space.sample(seeds=2)
    population.buffers["1.running_mean"][1] += 2.0
    population.buffers["1.num_batches_tracked"][:] = torch.tensor([7, 9])
    mean = soup(population).buffers
    assert mean["1.running_mean"].tolist() == [[1.0] * 3]
    assert mean["1.num_batches_tracked"].tolist() == [7]


@pytest.fixture
def run(checked_once):
    def fitted(network, **more):
        x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
        data = ms.data.load((x, (x[:, 0] > 0).long()))
        return ms.fit(ms.ModelSpace(network).sample(2, lr=[0.1]), data, epochs=3, plan=PLAN, **more)

    return fitted


def test_snapshots_are_the_recorded_points(run):
    def net():
        return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))

    trained = run(net, record="points")
    found, recorded = snapshots(trained), trained.records["points"].values
    assert found.table[["member", "step", "seed"]].values.tolist() == [
        [m, s, m] for m in (0, 1) for s in (1, 2, 3)
    ]
    assert torch.equal(found.points.view(2, 3, -1), recorded[:, 1:])
    assert torch.equal(snapshots(trained, 1).points, trained.population.points)
    assert torch.allclose(soup(snapshots(trained, 2, members=[1])).points[0], recorded[1, 2:].mean(0))
    ensemble = ms.Ensemble([trained, snapshots(trained, last=2)])
    assert (len(ensemble), ensemble.combine, str(ensemble.loss)) == (6, "mean", "cross_entropy")
    with pytest.raises(ModelspaceError, match=r"fit\(…, record='points'\)"):
        snapshots(run(net))
    # An average over all updates is the result of its fit, so that it is a member as it is.
    average = run(net, optimizer="swa(adam)", record="points")
    assert np.isfinite(
        ms.Ensemble(average).evaluate(Split(torch.zeros(2, 4), torch.tensor([0, 1]))).ensemble
    ).all()


def test_snapshots_without_their_statistics_are_refused(run):
    trained = run(lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)), record="points")
    with pytest.raises(
        ModelspaceError, match=r"1\.running_mean, 1\.running_var, .* record='points' does not keep"
    ):
        snapshots(trained)
