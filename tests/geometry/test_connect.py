import os

import numpy as np
import pytest
import torch
from support.cases import FrozenBackbone, Residual
from torch import nn

import modelspace as ms
from modelspace.errors import ModelspaceError
from modelspace.geometry.barriers import barriers
from modelspace.geometry.connect import OnCurve, connect

# The check of signatures draws from ``random`` wherever a forward draws numbers; then it is no member's own.
VMAP = "loop" if os.environ.get("MODELSPACE_TYPES") == "1" else "vmap"
X = torch.randn(64, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
REGRESSION = ms.data.load((X, X @ torch.tensor([[1.0], [-2], [0.5]], dtype=torch.float64)))
LINEAR = ms.ModelSpace(
    nn.Linear, in_features=3, out_features=1, bias=False, input_shape=(3,), dtype=torch.float64
)


def test_bends_of_a_quadratic_loss_are_where_the_mean_over_t_is_least():
    ends = LINEAR.sample(seeds=2)
    a, b = ends.points
    found = connect(
        ends[[0]],
        ends[[1]],
        REGRESSION,
        seeds=48,
        epochs=120,
        lr=0.2,
        batch_size=len(REGRESSION.train),
        optimizer="sgd",
        loss="mse",
        plan=VMAP,
        steps=5,
    )
    # ∫ 2t(1 − t) (γ(t) − θ*) dt = 0. The noise of t is not in the mean: each step is linear in the bend.
    best = torch.tensor([1.0, -2, 0.5], dtype=torch.float64)
    exact = 7.5 * (best / 3 - (a + b) / 10)
    bends = torch.stack([each.controls[1] for each in found.slices])
    error = bends.std(0) / len(bends) ** 0.5
    assert ((bends.mean(0) - exact).abs() < 4 * error).all()
    assert (error < 0.2 * (exact - (a + b) / 2).abs()).all()
    assert len({tuple(bend.tolist()) for bend in bends}) == 48  # each seed draws its own t
    for split, part in (("train", REGRESSION.train), ("test", REGRESSION.test)):
        for k in (0, 7):
            points = found.slices[k].points(np.linspace(0, 1, 5))
            plain = (part.inputs @ points.T - part.labels).square().mean(0)
            np.testing.assert_allclose(found.curves[split][k], plain, rtol=1e-10)
    line = torch.lerp(a, b, torch.linspace(0, 1, 5, dtype=torch.float64)[:, None])
    plain = (REGRESSION.train.inputs @ line.T - REGRESSION.train.labels).square().mean(0)
    np.testing.assert_allclose(found.lines["train"][3], plain, rtol=1e-10)


@pytest.mark.parametrize("curve", ["bezier", "polychain"])
def test_the_module_is_the_architecture_at_a_point_of_the_slice(curve):
    controls = LINEAR.sample(seeds=4)
    module = OnCurve(LINEAR.fresh(), LINEAR, curve, 2)
    with torch.no_grad():
        module.bends.copy_(controls.points[1:3])
        module.ends.copy_(controls.points[[0, 3]])
    own = getattr(ms.geometry.slices, curve)(controls)
    for t, mode in ((0.5, False), (None, True)):
        torch.manual_seed(3)
        t = float(torch.rand((), dtype=torch.float64)) if t is None else t
        torch.manual_seed(3)
        plain = LINEAR.module(own.points([[t]])[0])(X)
        torch.testing.assert_close(module.train(mode)(X), plain, rtol=1e-12, atol=1e-12)


def test_pairs_seeds_and_columns_are_one_population_however_it_is_computed():
    space = ms.ModelSpace(Residual, input_shape=(2, 6, 6), dtype=torch.float64)
    x = torch.randn(40, 2, 6, 6, dtype=torch.float64)
    data = ms.data.load((x, torch.arange(40) % 3))
    ends = space.sample(seeds=4)
    given = {"curve": "polychain", "bends": 2, "seeds": [5, 9], "epochs": 1, "batch_size": 8, "steps": 3}
    batched, alone = (
        connect(ends[[0, 1]], ends[[2, 3]], data, lr=0.05, plan=plan, optimizer="sgd", **given)
        for plan in (VMAP, "loop")
    )
    assert batched.members["pair"].tolist() == [0, 0, 1, 1]
    assert batched.members["seed"].tolist() == [5, 9, 5, 9]
    for one, other in zip(batched.slices, alone.slices, strict=True):
        torch.testing.assert_close(one.controls, other.controls, rtol=1e-9, atol=1e-12)
        assert not torch.equal(one.controls[1], torch.lerp(one.controls[0], one.controls[3], 1 / 3))
    # Statistics are recomputed along the line, as between any two points.
    assert batched.recomputed
    line = barriers(ends[[0, 2]], data, steps=3, statistics="recomputed").recomputed[0]
    np.testing.assert_allclose(batched.lines["train"][0], line, rtol=1e-9)
    table = batched.table
    highest = batched.curves["test"].max(1) / batched.curves["test"][:, [0, -1]].max(1)
    np.testing.assert_allclose(table["test_ratio"], highest)
    assert batched.summary.loc["train_ratio", "pairs"] == 2
    assert batched.curves["train"][0, 1] != batched.curves["train"][1, 1]
    assert "recomputed at each point" in repr(batched)
    assert "<td>" in batched._repr_html_()


def test_modules_and_state_dicts_are_ends_and_a_run_goes_into_a_folder(tmp_path):
    a, b = LINEAR.sample(seeds=2).modules()
    given = {"loss": "mse", "epochs": 1, "lr": 0.1, "plan": VMAP, "steps": 3, "optimizer": "sgd"}
    first = connect(a, b.state_dict(), REGRESSION, **given)
    second = connect(a, b, REGRESSION, out=tmp_path / "curve", **given)
    assert torch.equal(first.slice.controls, second.slice.controls)
    assert (tmp_path / "curve" / "run.sqlite").exists()


@pytest.mark.parametrize(
    ("ends", "given", "said"),
    [
        (lambda: LINEAR.sample(seeds=2), {"bends": 0}, "received bends=0"),
        (lambda: LINEAR.sample(seeds=2), {"curve": "arc"}, "unknown curve 'arc'"),
        (lambda: LINEAR.sample(seeds=3), {}, "received 1 and 2"),
        (lambda: LINEAR.sample(seeds=2), {"epoch": 3}, "'epoch'"),
    ],
)
def test_bad_input_is_one_clear_line(ends, given, said):
    population = ends()
    with pytest.raises(ModelspaceError, match=said):
        connect(population[[0]], population[1:], REGRESSION, loss="mse", **given)


def test_points_of_two_spaces_have_no_curve_between_them():
    with pytest.raises(ModelspaceError, match="points of one space"):
        connect(LINEAR.sample(seeds=1), ms.ModelSpace(FrozenBackbone).sample(seeds=1), REGRESSION)


@pytest.mark.slow
def test_a_trained_curve_rises_nowhere_above_its_ends():
    """Garipov et al.'s finding, as a shape: nets on digits, two pairs, two seeds of t each."""
    data = ms.data.digits()
    data = ms.data.of_splits(
        **{n: (p.inputs.flatten(1), p.labels) for n, p in data.splits.items()}, name="digits, flat"
    )
    space = ms.ModelSpace(
        lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
        input_shape=(64,),
    )
    run = ms.fit(space.sample(seeds=4, lr=[3e-3]), data, epochs=12, plan=VMAP)
    ends = run.population
    found = connect(ends[[0, 1]], ends[[2, 3]], data, seeds=2, epochs=30, lr=3e-3, plan=VMAP, bends=3)
    print(found, found.table.T)
    assert (found.table["train_ratio"] <= 1.05).all()
    assert (found.table["train_curve"] < found.table["train_line"]).all()
