"""The curvature of members against closed forms and whole Hessians; whose loss, samples and moments they are of."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits
from torch import nn

import modelspace as ms
from modelspace.geometry import _computed, curvature, stability_threshold
from modelspace.plain import plain
from modelspace.population import Population

DOUBLE = {"dtype": torch.float64}
NEAR = pytest.approx


def net(inputs=3, hidden=4, outputs=2):
    return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))


def members(count=3, **columns):
    return ms.ModelSpace(net, input_shape=(3,), **DOUBLE).sample(seeds=count, **columns)


def classes(count=30, seed=0):
    g = torch.Generator().manual_seed(seed)
    inputs, labels = (
        torch.randn(count, 3, generator=g, dtype=torch.float64),
        torch.randint(2, (count,), generator=g),
    )
    return ms.data.load((inputs, labels), splits=(1, 0, 0), name="points")


def at(space, point):
    return Population(space, point.reshape(1, -1), {}, pd.DataFrame({"seed": [0]}))


def of(inputs, labels):
    parts = [
        torch.as_tensor(part, dtype=torch.float64 if np.ndim(part) > 1 else None) for part in (inputs, labels)
    ]
    return ms.data.load(tuple(parts), splits=(1, 0, 0), name="closed form")


def hessian(population, k, data, loss):
    """The whole matrix, of the plain module."""
    module, layout = population.module(k), population.space.layout

    def value(point):
        outputs, labels = (
            torch.func.functional_call(module, layout.views(point), (data.train.inputs,)),
            data.train.labels,
        )
        return loss(outputs, labels.double() if labels.is_floating_point() else labels)

    return torch.autograd.functional.hessian(value, population.points[k])


def found(population, data, **given):
    return curvature(population, data, **{"compile": False, "tolerance": 1e-9, **given})


def test_every_member_is_its_whole_hessian():
    population, data = members(), classes()
    whole = torch.stack([hessian(population, k, data, nn.functional.cross_entropy) for k in range(3)])
    exact = torch.linalg.eigvalsh(whole).numpy()
    c = found(population, data, top=4, by_layer=True, density=True, probes=20)
    np.testing.assert_allclose(c.top, exact[:, :-5:-1], atol=1e-9)
    np.testing.assert_allclose(c.least, exact[:, 0], atol=1e-9)
    assert max(c.top_bound.max(), c.least_bound.max()) < 1e-7
    low, high = c.trace_interval(0.9999)
    assert ((low - 1e-9 <= exact.sum(1)) & (exact.sum(1) <= high + 1e-9)).all()
    np.testing.assert_array_less(abs(c.square - (exact**2).sum(1)), 5 * c.square_se + 1e-9)
    assert c.layers == ("0", "2")
    diagonal = whole.diagonal(dim1=1, dim2=2)
    blocks = np.stack([diagonal[:, :16].sum(1), diagonal[:, 16:].sum(1)], 1)
    np.testing.assert_array_less(abs(c.by_layer - blocks), 5 * c.by_layer_se + 1e-9)
    grid, values, se, width = c.density
    smooth = np.exp(-(((grid[:, None] - exact[:, None]) / width) ** 2) / 2).mean(2) / (
        width * (2 * np.pi) ** 0.5
    )
    assert (abs(values - smooth) <= 5 * se + 1e-2).mean() > 0.98
    assert np.trapezoid(values, grid).tolist() == NEAR([1] * 3, abs=1e-3)
    assert c.density.band().shape == (3, len(grid))
    assert c.finite is None
    assert c.notes == ()
    said = json.loads(json.dumps(plain(c), allow_nan=False))
    assert (said["density"]["width"], said["members"]) == (NEAR(width), {"seed": [0, 1, 2]})
    for text in (repr(c), c._repr_html_()):
        assert "hessian of cross_entropy on points" in text


@pytest.mark.slow
def test_softmax_at_zero_on_digits():
    digits = load_digits()
    space = ms.ModelSpace(nn.Linear, in_features=64, out_features=10, bias=False, **DOUBLE)
    start = at(space, torch.zeros(640, dtype=torch.float64))
    c = found(start, of(digits.data / 16, digits.target), top=10, tolerance=1e-4)
    assert c.top[0].tolist() == NEAR([1.04552997] * 9 + [0.06988326], abs=1e-7)
    assert abs(c.trace[0] - 13.51277911) < 4 * c.trace_se[0] < 0.2
    assert c.loss == "cross_entropy"


def test_least_squares_on_diabetes():
    x, y = load_diabetes(return_X_y=True)
    space = ms.ModelSpace(nn.Linear, in_features=10, out_features=1, **DOUBLE)
    c = found(space.sample(seeds=2), of(x, y[:, None]), loss="mse", top=4)
    assert c.top[0].tolist() == NEAR([2, 0.0182091, 0.00675258, 0.00545686], abs=5e-9)
    x = np.c_[x, np.ones(len(x))]
    np.testing.assert_allclose(c.trace, 2 * (x**2).sum() / len(x), atol=1e-12)
    gauss = found(
        space.sample(seeds=2), of(x[:, :10], y[:, None]), loss="mse", top=4, operator="gauss-newton"
    )
    np.testing.assert_allclose(gauss.top, c.top, atol=1e-12)


def test_logistic_regression():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(50, 4, generator=g, dtype=torch.float64)
    y = torch.randint(2, (50, 1), generator=g).double()
    space = ms.ModelSpace(nn.Linear, in_features=4, out_features=1, bias=False, **DOUBLE)
    population = space.sample(seeds=3)
    p = (x @ population.points.T).sigmoid()
    exact = torch.stack([torch.linalg.eigvalsh(x.T @ ((q * (1 - q))[:, None] * x) / 50) for q in p.T])
    c = found(population, of(x, y), loss="binary_cross_entropy_with_logits", top=4)
    np.testing.assert_allclose(c.top, exact.flip(1), atol=1e-12)


@pytest.mark.parametrize(("operator", "rank"), [("gauss-newton", 6), ("fisher", 3)])
def test_few_samples_are_few_eigenvalues(operator, rank):
    """Gauss–Newton's matrix has at most N · C of them (cross-entropy's less N), Fisher's N; all at least 0."""
    c = found(members(), classes(3), top=8, operator=operator)
    assert (c.top[:, rank:] < 1e-12).all()
    assert (c.top[:, 2] > 1e-6).all()
    assert (c.least > -1e-12).all()


def test_each_member_has_its_own_loss_and_samples():
    g = torch.Generator().manual_seed(0)
    inputs, targets = (torch.randn(24, k, generator=g, dtype=torch.float64) for k in (3, 2))
    losses = {"mse": nn.functional.mse_loss, "huber": nn.functional.huber_loss}
    population, data = members(2, loss=list(losses)), of(inputs, targets)
    c = found(population, data, top=2)
    for k, name in enumerate(population.table["loss"]):
        exact = torch.linalg.eigvalsh(hessian(population, k, data, losses[name]))
        assert c.top[k].tolist() == NEAR(exact.flip(0)[:2].tolist(), abs=1e-9)
    parts = [(inputs[i::3], targets[i::3]) for i in range(3)]
    tasks = ms.data.of_tasks(parts, splits=(1, 0, 0))
    population = members(2, task=[2, 0, 1])
    c = found(population, tasks, loss="mse", top=2)
    for k, task in enumerate(population.table["task"]):
        whole = hessian(population, k, of(*parts[task]), nn.functional.mse_loss)
        assert c.top[k].tolist() == NEAR(torch.linalg.eigvalsh(whole).flip(0)[:2].tolist(), abs=1e-9)
    assert c.samples == 8


@pytest.mark.slow
def test_objectives_widths_and_subsets():
    data = classes()

    def plain_loss(model, batch, factor=1.0):
        return factor * nn.functional.cross_entropy(model(batch[0]), batch[1])

    def square(model, batch):
        return model(batch[0]).square().mean()

    both = {"plain": plain_loss, "square": square}
    population = members(2, objective=list(both), factor=2.0)
    c = found(population, data, objective=both, top=2)
    goals = {
        "plain": lambda z, y: 2 * nn.functional.cross_entropy(z, y),
        "square": lambda z, _: z.square().mean(),
    }
    for k, name in enumerate(population.table["objective"]):
        exact = torch.linalg.eigvalsh(hessian(population, k, data, goals[name])).flip(0)[:2]
        assert c.top[k].tolist() == NEAR(exact.tolist(), abs=1e-9)
    widths = ms.ModelSpace(net, input_shape=(3,), **DOUBLE).sample(seeds=2, hidden=[2, 5])
    c = found(widths, data, top=3, by_layer=True)
    alone = found(widths[[3]], data, top=3)
    assert c.top[3].tolist() == NEAR(alone.top[0].tolist())
    few, again, other = (found(widths, data, top=1, samples=10, seed=s) for s in (0, 0, 1))
    assert (few.top == again.top).all()
    assert (few.top != other.top).all()
    assert few.samples == 10


def test_members_do_not_depend_on_their_neighbours(monkeypatch):
    population, data, asked = (
        members(3),
        classes(),
        {"top": 2, "tolerance": 1e-3, "density": True, "by_layer": True},
    )
    whole = found(population, data, probes=3, **asked)
    monkeypatch.setattr(_computed, "free_bytes", lambda _: 2 * 26 * 8 * 65)
    apart = found(population, data, probes=3, **asked)
    for name in ("top", "least", "trace", "trace_se", "square", "by_layer", "by_layer_se"):
        np.testing.assert_allclose(getattr(apart, name), getattr(whole, name), rtol=1e-9)
    np.testing.assert_allclose(apart.density.values, whole.density.values, atol=1e-9)
    assert apart.products == whole.products
    monkeypatch.setattr(_computed, "free_bytes", lambda _: 26 * 8 * 50)
    with pytest.raises(
        ms.ModelspaceError, match=r"vectors of 26 numbers take 208 B each, and .* too few for one"
    ):
        found(population, data)


def test_ctrl_c_keeps_who_is_done(monkeypatch):
    population, data, calls = members(3), classes(), []
    monkeypatch.setattr(_computed, "free_bytes", lambda _: 2 * 26 * 8 * 66)
    of_shard = _computed.Asked.of

    def interrupted(self, *given):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return of_shard(self, *given)

    monkeypatch.setattr(_computed.Asked, "of", interrupted)
    c = found(population, data, top=1)
    assert np.isfinite(c.top[:, 0]).tolist() == [True, False, False]
    assert c.notes == ("Interrupted: 2 members were not computed.",)
    calls[:] = [None]
    with pytest.raises(KeyboardInterrupt):
        found(population, data, top=1)


def test_a_member_without_finite_products_is_lost_alone():
    population = members(3)
    points = population.points.clone()
    points[1] = torch.nan
    broken = Population(population.space, points, {}, population.table)
    c, whole = (found(p, classes(), top=2, density=True) for p in (broken, population))
    assert np.isnan(c.top[1]).all()
    assert np.isnan(c.trace[1])
    np.testing.assert_allclose(c.top[[0, 2]], whole.top[[0, 2]], rtol=1e-9)
    assert np.isfinite(c.density.band()).all()
    assert c.notes == ("1 members have no finite products.",)


def test_traces_alone_and_a_preconditioner():
    population, data = members(2), classes()
    scale = torch.rand(2, 26, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    whole = torch.stack([hessian(population, k, data, nn.functional.cross_entropy) for k in range(2)])
    scaled = whole / (scale[:, :, None] * scale[:, None]).sqrt()
    c = found(population, data, top=2, preconditioner=scale)
    np.testing.assert_allclose(c.top, torch.linalg.eigvalsh(scaled).flip(1)[:, :2], atol=1e-9)
    only = found(population, data, top=0, probes=20)
    assert only.top.shape == (2, 0)
    assert np.isnan(only.least).all()
    exact = whole.diagonal(dim1=1, dim2=2).sum(1).numpy()
    np.testing.assert_array_less(abs(only.trace - exact), 5 * only.trace_se + 1e-9)
    assert set(only.table) == {"seed", "trace", "trace_se", "square", "square_se"}
    short = found(members(1), classes(), top=2, steps=3)
    assert short.notes == (
        "1 members have eigenvalues whose bound is above the tolerance: give more steps=.",
    )


@pytest.mark.usefixtures("checked_once")
def test_moments_of_training_and_the_run_s_own_loss_and_optimizer():
    g = torch.Generator().manual_seed(0)
    data = of(*(torch.randn(24, k, generator=g, dtype=torch.float64) for k in (3, 2)))
    population = members(2, lr=[0.05, 0.2])
    how = {"loss": "huber(delta=0.5)", "optimizer": ms.SGD(momentum=0.5), "plan": {"compile": False}}
    run = ms.fit(population, data, epochs=2, batch_size=8, record=ms.Record("points", every=3), **how)
    c = found(run, data, top=1, record="points")
    assert c.members["step"].tolist() == [0, 3, 6] * 4
    assert c.members["member"].tolist() == np.repeat(range(4), 3).tolist()
    np.testing.assert_allclose(c.thresholds, 3 / c.members["lr"])
    assert c.loss == "huber(delta=0.5)"
    ends = found(run, data, top=1)
    np.testing.assert_allclose(c.top[2::3], ends.top, rtol=1e-6)
    assert c.table["threshold"].tolist() == c.thresholds.tolist()
    assert c.associated(ends.trace.repeat(3), of="trace").given == ("lr",)
    with pytest.raises(ms.ModelspaceError, match="record 'loss' holds no points"):
        found(ms.fit(population, data, epochs=1, record="loss", **how), data, record="loss")
    with pytest.raises(ms.ModelspaceError, match=r"unknown record 'point'.*Known: points"):
        found(run, data, record="point")
    settings = SimpleNamespace(settings={"loss": "mine"}, members=run.members)
    with pytest.raises(
        ms.ModelspaceError, match="the run minimised 'mine', a function: give loss= or objective="
    ):
        _computed.goal_of_run(settings)


THRESHOLDS = [
    (ms.SGD(), 2.0),
    (ms.SGD(momentum=0.9), 3.8),
    (ms.SGD(momentum=0.9, nesterov=True), 3.8 / 2.8),
    (ms.SGD(momentum=0.5, dampening=0.2), 3 / 0.8),
    (ms.SGD(momentum=0.9, weight_decay=0.25), 3.8),
    (ms.Adam(eps=1e60), 38.0),
    (ms.AdamW(eps=1e60, weight_decay=0.0), 38.0),
]


def boundary(optimizer, expected, rates, updates, reach):
    """The least rate of a column at which steps on ½ p² grow from half of the updates to all, in thresholds."""
    decay, adaptive = optimizer.weight_decay, isinstance(optimizer, ms.Adam | ms.AdamW)
    size = optimizer.eps if adaptive else 1.0
    share = np.linspace(1 - reach, 1 + reach, rates)
    lr = share * size * expected / (1 + decay)
    known = stability_threshold(optimizer, pd.DataFrame({"lr": lr}), preconditioned=adaptive)
    np.testing.assert_allclose(known, expected / lr - decay, rtol=1e-12)
    space = ms.ModelSpace(nn.Linear, in_features=1, out_features=1, bias=False, **DOUBLE)
    start = Population(
        space, torch.full((rates, 1), 1e-60, dtype=torch.float64), {}, pd.DataFrame({"seed": 0, "lr": lr})
    )
    times = [updates // 2, updates // 2 + 1, updates - 1, updates]
    how = {"plan": {"compile": False, "lowering": "vmap"}, "record": ms.Record("points", at=times)}
    run = ms.fit(
        start, of([[0.5**0.5]], [[0.0]]), loss="mse", optimizer=optimizer, steps=updates, batch_size=1, **how
    )
    sizes = run.records["points"].values[..., 0].abs().nan_to_num(torch.inf).unflatten(1, (2, 2)).amax(2)
    # Far beyond it, Adam's √v is no longer small beside ε.
    grown = ((sizes[:, 1] > sizes[:, 0]) | (sizes[:, 1] > 1)).numpy() | (run.status == "diverged")
    assert (np.diff(grown.astype(int)) >= 0).all()
    return share[grown.argmax()]


@pytest.mark.parametrize(("optimizer", "expected"), THRESHOLDS[::2])
@pytest.mark.usefixtures("checked_once")
def test_steps_grow_from_the_threshold_on(optimizer, expected):
    assert boundary(optimizer, expected, 21, 100, 0.1) == NEAR(1, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "expected"), THRESHOLDS)
def test_a_thousand_rates_find_the_threshold(optimizer, expected):
    assert boundary(optimizer, expected, 1000, 400, 0.05) == NEAR(1, abs=1e-3)


def test_thresholds_that_are_not_known():
    table = pd.DataFrame({"lr": [0.1, 0.2], "betas": [(0.9, 0.99), (0.5, 0.99)]})
    assert stability_threshold("adam", table, preconditioned=True).tolist() == NEAR([380, 30])
    unknown = [
        ("adam", False),
        ("sgd", True),
        ("lion", False),
        (ms.SGD(maximize=True), False),
        (ms.Adam(weight_decay=0.1), True),
    ]
    for optimizer, preconditioned in unknown:
        table_ = table if optimizer == "adam" else table[["lr"]]
        assert np.isnan(stability_threshold(optimizer, table_, preconditioned=preconditioned)).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"probes": 1}, "with 2 probes or more; received .*probes=1"),
        ({"top": 0, "trace": False}, "something is to be computed"),
        ({"split": "tests"}, "unknown split 'tests'"),
        ({"split": "test"}, "the test split of points is empty"),
        ({"operator": "hesse"}, "unknown operator 'hesse'"),
        (
            {"preconditioner": torch.zeros(3, 26)},
            r"positive numbers of shape \(3, 26\); received \(3, 26\), the least 0",
        ),
        ({"preconditioner": torch.ones(2)}, r"positive numbers of shape \(3, 26\); received \(2,\)"),
    ],
)
def test_bad_input_is_one_clear_line(given, message):
    with pytest.raises(ms.ModelspaceError, match=message):
        found(members(), classes(), **given)
