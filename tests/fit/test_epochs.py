"""What happens to a batch and after an epoch: transforms, the incomplete last batch, functions that are called."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.cases import named
from support.plain import relative_error

import modelspace as ms
from modelspace.data import Data, Split, permutation
from modelspace.errors import ModelspaceError

CASE = named("MLP tanh")
G = torch.Generator().manual_seed(0)
X, Y = torch.randn(23, 6, generator=G, dtype=torch.float64), torch.arange(23) % 3
DATA = Data("d", Split(X, Y), Split(X[:6], Y[:6]), Split(X[:6], Y[:6]))
SPACE = CASE.space(torch.float64)
PLAN = {"lowering": "vmap", "compile": False, "shard": 2, "threads": 1, "workers": 1}


def fit(population, data=DATA, **settings):
    return ms.fit(population, data, **{"epochs": 3, "batch_size": 5, "plan": PLAN, **settings})


@pytest.mark.parametrize("lowering", ["vmap", "loop"])
def test_the_incomplete_last_batch_is_kept_where_asked(lowering):
    run = fit(SPACE.sample(seeds=3, lr=[0.05]), keep_last=True, plan={**PLAN, "lowering": lowering})
    for k in range(3):
        net = SPACE.sample(seeds=[k]).module(0)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
        for epoch in range(3):
            for rows in permutation(23, 0, epoch).split(5):
                optimizer.zero_grad()
                F.cross_entropy(net(X[rows]), Y[rows]).backward()
                optimizer.step()
        point = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
        assert relative_error(run.population.points[k][None], point[None]) < 1e-9
    assert run.table["steps"].tolist() == [15] * 3
    with pytest.raises(ModelspaceError, match="keep_last does not go with steps"):
        fit(SPACE.sample(seeds=1, lr=[0.1]), keep_last=True, steps=7)


def noisy(x):
    return x + 0.3 * torch.randn_like(x)


def test_a_transform_draws_by_seed_and_step_and_a_run_goes_on_bit_for_bit(tmp_path):
    population = SPACE.sample(seeds=4, lr=[0.05])
    whole = fit(population, transform=noisy)
    plain = fit(population)
    assert not torch.equal(whole.population.points, plain.population.points)
    again = fit(population[[2, 0]], transform=noisy, plan={**PLAN, "shard": 1})
    assert torch.allclose(again.population.points, whole.population.points[[2, 0]], rtol=1e-9)
    other = fit(population, transform=noisy, data_seed=1)
    assert not torch.allclose(other.population.points, whole.population.points)
    fit(population, transform=noisy, epochs=1, out=tmp_path / "run")
    resumed = fit(population, transform=noisy, out=tmp_path / "run")
    assert torch.equal(resumed.population.points, whole.population.points)
    # Validation sees no noise: the scores are those of the points themselves.
    scores = ms.evaluate(whole.population, DATA, ["loss"], split="validation")
    assert whole.table["validation_loss"].tolist() == pytest.approx(scores["loss"].tolist())


def test_a_transform_is_each_member_s_own_where_its_order_is():
    drawn = []

    def remember(x):
        drawn.append(noisy(torch.zeros_like(x)))
        return x + drawn[-1]

    fit(SPACE.sample(seeds=2, lr=[0.05]).with_columns(data_seed=[0, 0]), transform=remember, epochs=1)
    members = drawn[-8:]  # four updates of two members
    assert not any(torch.equal(a, b) for i, a in enumerate(members) for b in members[:i])


def scaled(x, augment=0.0, power=1):
    noise = torch.randn_like(x)
    assert isinstance(power, int)  # as its default is
    return x + augment * noise**power


@pytest.mark.parametrize(
    "settings", [{}, {"accumulate": 2}, {"keep_last": True}, {"plan": {**PLAN, "lowering": "loop"}}]
)
def test_each_member_s_strength_of_a_transform_is_a_column(settings):
    """A member is trained as in a fit of its own whose transform has its strength for all; draws are shared."""
    members = SPACE.sample(seeds=[3], lr=[0.05], augment=[0.0, 0.5, 1], power=[1, 2])
    run = fit(members, transform=scaled, **settings)
    for k, (augment, power) in enumerate(zip(members.table["augment"], members.table["power"], strict=True)):
        own = partial(scaled, augment=augment, power=int(power))
        alone = fit(SPACE.sample(seeds=[3], lr=[0.05]), transform=own, **settings)
        assert relative_error(run.population.points[k][None], alone.population.points) < 1e-9
    assert len(np.unique(run.table["train_loss"].round(9))) == 5  # without noise its power does not matter


def test_strengths_go_with_orders_of_their_own():
    members = SPACE.sample(seeds=2, lr=[0.05], augment=[0.0, 1.0]).with_columns(data_seed=[0, 1, 0, 1])
    run = fit(members, transform=scaled)
    plain = fit(members.without_columns("augment"))
    still = torch.from_numpy(run.table["augment"].to_numpy() == 0)
    assert torch.allclose(run.population.points[still], plain.population.points[still], rtol=1e-9)
    assert not torch.allclose(run.population.points[~still], plain.population.points[~still])
    others = fit(members[[3, 0]], transform=scaled).population.points
    assert torch.allclose(others, run.population.points[[3, 0]], rtol=1e-9)


@pytest.mark.parametrize(
    ("transform", "columns", "message"),
    [
        (
            scaled,
            {"augment": [0.0, np.nan]},
            r"transform augment must be a finite number; received nan .member 1",
        ),
        (scaled, {"strength": [0.5]}, "unknown column .* 'strength'.*augment"),
        (None, {"augment": [0.5]}, "unknown column .* 'augment'"),
        (lambda x, flip=True: x, {"flip": [1.0]}, "unknown column .* 'flip'"),
        (
            lambda x, lr=0.1: x,
            {},
            "column lr is an argument of the transform as well as another hyper-parameter",
        ),
        (scaled, {"power": [0.5]}, r"transform failed on inputs of 6 float64: AssertionError"),
    ],
)
def test_what_is_no_strength_is_one_line(transform, columns, message):
    with pytest.raises(ModelspaceError, match=message):
        fit(SPACE.sample(seeds=1, lr=[0.1], **columns), transform=transform)
    with pytest.raises(ModelspaceError, match="transform them before step"):
        ms.Trainer(SPACE.sample(seeds=1, lr=[0.1]), (X, Y), transform=scaled)


def test_a_transform_that_fails_or_loses_samples_is_one_line():
    population = SPACE.sample(seeds=1, lr=[0.1])
    with pytest.raises(ModelspaceError, match="transform makes 3 samples of 5: it takes a batch"):
        fit(population, transform=lambda x: x[:3])
    with pytest.raises(ModelspaceError, match="transform failed on inputs of 6 float64: RuntimeError"):
        fit(population, transform=lambda x: x @ torch.zeros(3, 3))


def test_a_function_sees_every_epoch_and_may_stop_members():
    told = []

    def watch(epoch):
        told.append((epoch.number, tuple(epoch.rows)))
        assert torch.isfinite(epoch.population.points).all()
        assert epoch.scores["validation_loss"].shape == (len(epoch.rows),)
        return np.array([row == 1 for row in epoch.rows]) if epoch.number == 1 else None

    run = fit(SPACE.sample(seeds=3, lr=[0.05]), epochs=4, on_epoch=watch)
    assert [number for number, rows in told if 0 in rows] == [0, 1, 2, 3]
    assert run.table["status"].tolist() == ["finished", "stopped early", "finished"]
    assert run.table["steps"].tolist() == [16, 8, 16]
    with pytest.raises(
        ModelspaceError, match=r"on_epoch returned \(3,\): a mask has one entry for each of the 2"
    ):
        fit(SPACE.sample(seeds=2, lr=[0.05]), on_epoch=lambda epoch: [True] * 3)


def test_a_run_in_a_folder_goes_on_with_its_optimizer(tmp_path):
    population = SPACE.sample(seeds=3, lr=[0.05])
    whole = fit(population, epochs=4)
    run = fit(population, epochs=2, out=tmp_path / "run")
    longer = fit(run, epochs=4)
    assert torch.equal(longer.population.points, whole.population.points)
    assert longer.epochs == 4
    with pytest.raises(
        ModelspaceError, match="a run in memory keeps points, and not what the optimizer remembers"
    ):
        fit(whole, epochs=6)
    moved = ms.Population(SPACE, population.points + 1, population.buffers, population.table)
    with pytest.raises(ModelspaceError, match="did not begin where seeds begin"):
        fit(fit(moved, epochs=1, out=tmp_path / "moved"), epochs=2)
