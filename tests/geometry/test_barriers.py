import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from support.cases import Residual, mlp
from torch import nn

import modelspace as ms
from modelspace.errors import ModelspaceError
from modelspace.geometry.barriers import Barriers, barriers

X = torch.randn(60, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
DATA = ms.data.load((X, (X[:, 0] * X[:, 1] > 0).long()))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.outer(torch.tanh(self.inner(x)))


SPACE = ms.ModelSpace(Net, input_shape=(4,), dtype=torch.float64)


def wide(count, factor=4.0):
    """Points far enough apart that the lines between them rise."""
    drawn = SPACE.sample(seeds=count)
    return ms.Population(SPACE, drawn.points * factor, {}, drawn.table)


def test_a_linear_model_with_squared_loss_is_exact():
    space = ms.ModelSpace(nn.Linear, in_features=4, out_features=1, input_shape=(4,), dtype=torch.float64)
    y = X @ torch.randn(4, 1, dtype=torch.float64) + 1
    population = space.sample(seeds=4)
    data = ms.data.load((X, y))
    found = barriers(population, data, loss="mse", steps=9)
    x = data.train.inputs
    design = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], 1)
    for row, (a, b) in enumerate(found.pairs[["a", "b"]].to_numpy()):
        ends = population.points[[a, b]]
        points = torch.lerp(ends[:1], ends[1:], torch.linspace(0, 1, 9, dtype=torch.float64)[:, None])
        exact = (points @ design.T - data.train.labels.T).square().mean(1)
        np.testing.assert_allclose(found.losses[row], exact, rtol=1e-12)
        assert found.pairs["worse"][row] == 0  # it is convex
    assert found.n == 6
    assert (found.matrix() == 0).all()
    assert found.clusters(0.0).tolist() == [0, 0, 0, 0]


def test_each_pair_is_that_of_compare_on_the_plain_modules():
    population = wide(4)
    found = barriers(population, DATA, split="test", steps=7)
    part = DATA.test
    for a, b, chord in found.pairs[["a", "b", "chord"]].itertuples(index=False):
        modules = population.module(int(a)), population.module(int(b))
        other = ms.compare(*modules, inputs=part.inputs, labels=part.labels, points=7)
        assert chord == pytest.approx(other.barrier, rel=1e-10, abs=1e-12)
        assert found.matrix()[int(b), int(a)] == chord
    assert found.pairs["chord"].max() > 0.1


def test_a_permuted_copy_is_behind_a_barrier_until_it_is_aligned():
    net = wide(1).module(0)
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    other = copy.deepcopy(net)
    with torch.no_grad():
        for kept in (other.inner.weight, other.inner.bias):
            kept.copy_(kept[order].clone())
        other.outer.weight.copy_(net.outer.weight[:, order])
    aligned = copy.deepcopy(other)
    with torch.no_grad():
        back = order.argsort()
        aligned.inner.load_state_dict({n: p[back] for n, p in other.inner.state_dict().items()})
        aligned.outer.weight.copy_(other.outer.weight[:, back])
    found = barriers(ms.population_of([net, other, aligned], SPACE), DATA)
    ends = found.losses[:, [0, -1]]
    np.testing.assert_allclose(ends, ends[0, 0], rtol=1e-12)  # one function
    assert found.matrix("chord")[0, 1] > 0.05
    assert found.matrix("worse")[0, 2] == pytest.approx(0, abs=1e-12)
    assert found.clusters(1e-9).tolist() == [0, 1, 0]


def plain_loss(module, inputs, labels):
    with torch.no_grad():
        return float(nn.functional.cross_entropy(module.eval()(inputs), labels))


def test_statistics_are_recomputed_at_each_point_of_the_line():
    space = ms.ModelSpace(Residual, input_shape=(2, 8, 8), dtype=torch.float64)
    shape = (40, *space.input_shape)
    x, y = torch.randn(*shape, dtype=torch.float64), torch.arange(40) % 3
    data = ms.data.load((x, y))
    population = space.sample(seeds=2)
    found = barriers(population, data, steps=3)
    assert found.kinds == ["chord", "worse", "recomputed_chord", "recomputed_worse"]
    middle = space.module(population.points.mean(0))
    for layer in middle.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
    middle.train()
    with torch.no_grad():
        middle(data.train.inputs)
    own = plain_loss(middle, data.train.inputs, data.train.labels)
    assert found.recomputed[0, 1] == pytest.approx(own, rel=1e-9)
    assert found.losses[0, 1] != pytest.approx(own, rel=1e-3)
    only = barriers(population, data, steps=3, statistics="recomputed")
    assert only.losses is None
    assert only.mean == pytest.approx(float(found.pairs["recomputed_chord"].iloc[0]), rel=1e-9)
    assert barriers(population, data, steps=3, statistics="kept").recomputed is None


def test_a_run_gives_its_members_that_ended_well(checked_once):
    run = ms.fit(SPACE.sample(seeds=4, lr=[1e-2]), DATA, epochs=1, plan="vmap", optimizer="sgd")
    run = replace(run, status=np.array(["finished", "diverged", "stopped early", "finished"], dtype=object))
    found = barriers(run, DATA, steps=3)
    assert found.members["member"].tolist() == [0, 2, 3]
    assert found.members["seed"].tolist() == [0, 2, 3]
    assert "1 of the run's 4 members are left out" in repr(found)


def made(values, count):
    """A record of made-up barriers."""
    a, b = np.triu_indices(count, 1)
    pairs = pd.DataFrame({"a": a, "b": b, "chord": values[a, b]})
    nothing = np.zeros((len(a), 3))
    table = pd.DataFrame({"seed": range(count)})
    return Barriers("made up", "d", "train", "l", table, pairs, (0, 0.5, 1), nothing, None, 0.0, ())


def test_the_error_is_over_members_and_covers():
    from scipy.stats import t

    count, generator, inside, naive = 12, np.random.default_rng(0), 0, 0
    for _ in range(400):
        own = generator.uniform(0, 2, size=count)
        noise = generator.normal(size=(count, count)) * 0.3
        found = made(own[:, None] + own[None] + noise, count)
        chord = found.pairs["chord"].to_numpy()
        inside += abs(found.mean - 2) < t.ppf(0.975, count - 1) * found.error
        naive += abs(found.mean - 2) < 1.96 * chord.std(ddof=1) / len(chord) ** 0.5
    assert abs(inside / 400 - 0.95) < 0.03
    assert naive / 400 < 0.75  # as if pairs were independent


def test_a_share_has_the_exact_interval_and_an_error_over_members():
    values = np.full((5, 5), 0.1)
    values[0] = 1.0
    share = made(values, 5).probability(0.5)
    assert (share.value, share.n) == (0.4, 10)
    assert (share.low, share.high) == pytest.approx((0.1216, 0.7376), abs=1e-4)  # Clopper and Pearson
    assert share.error == pytest.approx((4 / 5 * (0.4**2 + 4 * 0.1**2)) ** 0.5)
    assert np.isnan(made(values, 2).error)


def test_a_hole_is_counted_and_left_out():
    values = np.ones((4, 4))
    values[1, 2] = np.nan
    found = made(values, 4)
    assert (found.n, found.mean, found.probability(0.5).n) == (5, 1.0, 5)
    assert found.clusters(1.0).max() == 0
    assert "<td>" in found._repr_html_()


@pytest.mark.parametrize(
    ("population", "given", "said"),
    [
        (lambda: SPACE.sample(seeds=1), {}, "at least 2 points are needed; received 1"),
        (lambda: SPACE.sample(seeds=2), {"steps": 2}, "received steps=2"),
        (lambda: SPACE.sample(seeds=2), {"statistics": "none"}, "unknown statistics 'none'"),
        (
            lambda: SPACE.sample(seeds=2, loss=["mse", "cross_entropy"]),
            {},
            "members have a loss of their own",
        ),
        (lambda: wide(3, np.inf), {}, r"NaN or infinite coordinates \(seed 0\)"),
        (lambda: ms.ModelSpace(mlp).sample(seeds=2, bias=[True, False]), {}, "points of 2 spaces"),
    ],
)
def test_bad_input_is_one_clear_line(population, given, said):
    with pytest.raises(ModelspaceError, match=said):
        barriers(population(), DATA, **given)
