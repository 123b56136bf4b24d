"""Landscapes, against exact surfaces and plain loops over modules."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from support.cases import DummyNet
from torch import nn

import modelspace as ms
from modelspace.errors import ModelspaceError
from modelspace.geometry import _ground, landscape, slices
from modelspace.geometry._statistics import recomputed

G = torch.Generator().manual_seed(0)
X, Y = (
    torch.randn(24, 3, generator=G, dtype=torch.float64),
    torch.randn(24, 2, generator=G, dtype=torch.float64),
)
REGRESSION = ms.data.load((X, Y))
LINEAR = ms.ModelSpace(nn.Linear, in_features=3, out_features=2, dtype=torch.float64)
TRAIN = {"splits": ["train"], "loss": "mse"}
CLASSES = ms.data.load((torch.randn(60, 4, generator=G), torch.arange(60) % 3))
NET = ms.ModelSpace(lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), dtype=torch.float64)


def test_of_a_linear_model_every_line_is_a_parabola_and_every_plane_a_quadric():
    """The mean squared error's Hessian is 2/(2N) XᵀX for each of the two outputs, the bias a column of ones."""
    inputs = REGRESSION.train.inputs.double()
    design = torch.cat([inputs, torch.ones(len(inputs), 1)], 1)
    hessian = design.T @ design / len(design)  # 2 / N for the mean over N samples, 1/2 for that over outputs

    def second(d, e):
        d, e = (torch.cat([v[:6].view(2, 3), v[6:, None]], 1) for v in (d, e))
        return float(((d @ hessian) * e).sum())

    points = LINEAR.sample(3).copy()
    found = slices.random(points[[0]], biases=True)
    values = landscape(points[[0]], REGRESSION, plane=found, grid=5, reach=1.0, **TRAIN).of()[0]
    _, u, v = found.controls
    step = 0.5
    wanted = [[second(u, u), second(u, v)], [second(v, u), second(v, v)]]
    for axis in (0, 1):
        bend = np.diff(values, 2, axis=axis) / step**2
        np.testing.assert_allclose(bend, wanted[axis][axis], rtol=0, atol=1e-12 * values.max())
    mixed = np.diff(np.diff(values, axis=0), axis=1) / step**2
    np.testing.assert_allclose(mixed, wanted[0][1], rtol=0, atol=1e-12 * values.max())
    a, b = points.points[:2]
    line = landscape(points[:2], REGRESSION, plane="line", grid=9, **TRAIN).of()[0]
    np.testing.assert_allclose(np.diff(line, 2) * 64, second(b - a, b - a), rtol=0, atol=1e-11 * line.max())


def test_along_a_symmetry_s_orbit_the_loss_is_constant():
    """W₂ W₁ stays: (W₁ + s E, W₂) with E in the kernel of W₂ is a line of one loss."""
    space = ms.ModelSpace(
        lambda: nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)), dtype=torch.float64
    )
    point = space.sample(1).copy()
    second = space.layout.views(point.points)["1.weight"][0]
    kernel = torch.linalg.svd(second).Vh[2:]  # two vectors of W₂ e = 0
    flat = [torch.cat([(e[:, None] * torch.ones(3)).reshape(-1), torch.zeros(8)]) for e in kernel]
    plane = slices.plane(point, directions=flat)
    found = landscape(point, REGRESSION, plane=plane, grid=5, reach=2.0, **TRAIN)
    assert np.ptp(found.of()) < 1e-13 * found.of().max()
    assert len(found.extrema()) == 0 or found.of().std() < 1e-13


def test_a_grid_is_what_loading_and_evaluating_modules_gives():
    members = NET.sample(2).copy()
    found = landscape(members, CLASSES, grid=(3, 4), reach=0.5, metrics=["accuracy"], seed=5)
    assert list(found.values) == ["train_loss", "train_accuracy", "test_loss", "test_accuracy"]
    net = NET.fresh().eval()
    for k in range(2):
        own = slices.random(members[[k]], seed=5)
        for i, x in enumerate(np.linspace(-0.5, 0.5, 3)):
            for j, y in enumerate(np.linspace(-0.5, 0.5, 4)):
                net.load_state_dict(own.population([[x, y]]).state_dict(0))
                for split in ("train", "test"):
                    part = CLASSES.part(split)
                    with torch.no_grad():
                        z = net(part.inputs.double())
                    loss, right = (
                        float(F.cross_entropy(z, part.labels)),
                        (z.argmax(1) == part.labels).double().mean(),
                    )
                    assert found.values[f"{split}_loss"][k, i, j] == pytest.approx(loss, rel=1e-12)
                    assert found.values[f"{split}_accuracy"][k, i, j] == pytest.approx(float(right))
    np.testing.assert_allclose(
        found.marks["train_loss"], ms.evaluate(members, CLASSES, split="train")["loss"]
    )
    frame = found.frame
    assert len(frame) == 24
    assert frame.loc[(frame["slice"] == 1) & (frame.x == 0.5), "train_loss"].tolist() == (
        found.of()[1, 2].tolist()
    )


def test_mean_sd_band_and_share_are_over_slices():
    found = landscape(NET.sample(4), CLASSES, grid=(3,), reach=1.0, splits=["train"])
    values = found.of("train_loss")
    np.testing.assert_allclose(found.mean(), values.mean(0))
    low, high = found.band()
    np.testing.assert_allclose(
        high - found.mean(), 3.182446305284263 * values.std(0, ddof=1) / 2
    )  # t(3) at 97.5 %
    np.testing.assert_allclose(low + high, 2 * values.mean(0))
    assert found.above(float(np.median(values[:, 0])))[0] == 0.5
    assert np.isnan(landscape(NET.sample(1), CLASSES, grid=(3,), reach=1.0).sd()).all()


def test_extrema_are_those_of_the_surface():
    """(x² − 1)² + y² has minima at (±1, 0) and a saddle at 0."""
    x = np.linspace(-2, 2, 9)
    surface = (x[:, None] ** 2 - 1) ** 2 + x[None] ** 2
    found = landscape(NET.sample(1), CLASSES, grid=2, reach=1.0, splits=["train"])
    made = copy.copy(found)
    object.__setattr__(made, "grid", (tuple(x), tuple(x)))
    object.__setattr__(made, "values", {"train_loss": surface[None]})
    kinds = [(r.kind, r.x, r.y, r.value) for r in made.extrema().itertuples()]
    assert kinds == [("minimum", -1, 0, 0), ("minimum", 1, 0, 0), ("saddle", 0, 0, 1)]
    surface[2, 4] = np.nan  # one minimum is a hole now: nothing beside it is said of its neighbours
    assert [r.kind for r in made.extrema().itertuples()] == ["minimum", "saddle"]


class Holed(nn.Module):
    """NaN where the weight is above 1/2."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 3, dtype=torch.float64))

    def forward(self, x):
        z = x.double() @ self.weight.new_ones(4, 3) * self.weight
        return torch.where(self.weight[0, 0] > 0.5, torch.nan, 1.0) * z


def test_what_is_no_number_is_a_hole_counted_and_not_smoothed():
    point = ms.ModelSpace(Holed).sample(1)
    plane = slices.plane(point, directions=torch.eye(3)[:2])
    found = landscape(point, CLASSES, plane=plane, grid=5, reach=1.0, refine=1, splits=["train"])
    assert np.isnan(found.of()[0, -1]).all()
    assert np.isfinite(found.of()[0, :-1]).all()
    assert found.holes == 5
    assert "5 holes" in repr(found)
    assert np.isnan(found.mean()[-1]).all()
    assert np.isnan(found.above(1.0)[-1]).all()
    wild = landscape(
        point, CLASSES, plane=plane, grid=3, splits=["train"]
    )  # an adaptive range ends in numbers
    assert np.isfinite([wild.grid[0][0], wild.grid[0][-1]]).all()


def test_the_range_goes_on_until_the_loss_has_risen():
    members = LINEAR.sample(2)
    trained = torch.linalg.lstsq(
        torch.cat([REGRESSION.train.inputs, torch.ones(len(REGRESSION.train), 1)], 1).double(),
        REGRESSION.train.labels.double(),
    ).solution
    best = torch.cat([trained[:3].T.reshape(-1), trained[3]])
    members = ms.Population(LINEAR, torch.stack([best, best]), {}, members.table)
    found = landscape(members, REGRESSION, grid=5, **TRAIN)
    rim = np.concatenate([found.of()[:, [0, -1]].ravel(), found.of()[:, :, [0, -1]].ravel()])
    assert rim.mean() > 4 * found.marks["train_loss"].mean() or "widest range" in " ".join(found.notes)
    assert found.grid[0] == found.grid[1]
    assert found.grid[0][0] == -found.grid[0][-1]
    seeds = landscape(LINEAR.sample(3), REGRESSION, plane="seeds", grid=4, reach=1.5, **TRAIN)
    assert seeds.grid[0][0] == pytest.approx(seeds.marks.x.min() - 1.5)
    assert seeds.grid[1][-1] == pytest.approx(seeds.marks.y.max() + 1.5)
    assert seeds.marks.slice.tolist() == [0, 0, 0]
    assert seeds.marks.seed.tolist() == [0, 1, 2]
    assert seeds.barriers.n == 3
    assert seeds.barriers.mean < 1e-12


def test_refined_points_are_where_the_surface_bends():
    members = NET.sample(2)
    plain = landscape(members, CLASSES, plane="line", grid=11, reach=4.0, splits=["train"])
    found = landscape(members, CLASSES, plane="line", grid=11, reach=4.0, refine=3, splits=["train"])
    np.testing.assert_array_equal(found.of(), plain.of())
    bends = np.abs(np.diff(plain.of()[0], 2))
    assert len(found.refined) >= 3
    first = found.refined.t.iloc[0]
    centre = np.array(plain.grid[0][1:-1])[bends.argmax()]
    assert abs(first - centre) < np.diff(plain.grid[0])[0]
    frame = found.frame
    assert frame.refined.sum() == len(found.refined)
    assert frame.t.is_unique
    row = found.refined.iloc[-1]
    exact = slices.line(members[[0]], members[[1]]).population([row.t])
    assert row.train_loss == pytest.approx(ms.evaluate(exact, CLASSES, split="train")["loss"][0], rel=1e-12)
    plane = landscape(members[[0]], CLASSES, grid=5, reach=1.0, refine=2, splits=["train"])
    assert len(plane.refined.drop_duplicates(["x", "y"])) == len(plane.refined) > 5


def test_a_killed_landscape_goes_on_and_ends_with_the_same_bits(tmp_path, monkeypatch, capsys):
    members, given = NET.sample(2), {"grid": (5,), "reach": 1.0, "splits": ["train"], "refine": 1}
    whole = landscape(members, CLASSES, **given)
    monkeypatch.setattr(_ground, "MOST", 4)
    pieces = landscape(members, CLASSES, **given, out=tmp_path / "whole")
    computed, real = [], _ground.evaluate

    def dying(*args, **kwargs):
        computed.append(1)
        if len(computed) == 4:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(_ground, "evaluate", dying)
    with pytest.raises(KeyboardInterrupt):
        landscape(members, CLASSES, **given, out=tmp_path / "killed")
    assert "points are kept in" in capsys.readouterr().err
    again = landscape(members, CLASSES, **given, out=tmp_path / "killed")
    before = len(computed)
    for name, value in again.values.items():
        assert np.array_equal(value, pieces.values[name])
        np.testing.assert_allclose(value, whole.values[name], rtol=1e-12)
    assert again.refined.equals(pieces.refined)
    assert again.evaluated == pieces.evaluated
    landscape(members, CLASSES, **given, out=tmp_path / "killed")
    assert len(computed) == before
    with pytest.raises(ModelspaceError, match="holds another landscape"):
        landscape(members, CLASSES, **given | {"seed": 1}, out=tmp_path / "killed")
    with pytest.raises(ModelspaceError, match="holds another landscape"):
        landscape(NET.sample(3), CLASSES, **given, out=tmp_path / "killed")
    file = tmp_path / "killed" / "landscape.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ModelspaceError, match="is damaged"):
        landscape(members, CLASSES, **given, out=tmp_path / "killed")


PLAN = {"lowering": "vmap", "shard": 4, "compile": False, "threads": 1, "workers": 1}


class Normed(nn.Module):
    """Two kinds of running statistics, one a plain mean over batches; and dropout, which stays off."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.BatchNorm1d(6)
        self.drop, self.c = nn.Dropout(0.5), nn.BatchNorm1d(6, momentum=None)
        self.d = nn.Linear(6, 3)

    def forward(self, x):
        return self.d(self.c(self.drop(self.b(self.a(x)).relu())))


def test_statistics_are_those_of_update_bn():
    space = ms.ModelSpace(Normed, dtype=torch.float64)
    members = space.sample(2)
    grid = slices.line(members[[0]], members[[1]]).grid([0.0, 0.4, 3.0])
    found = recomputed(grid, CLASSES, batch_size=16)
    assert not found.is_made
    assert found.table.equals(grid.table)
    inputs = CLASSES.train.inputs.double()
    for k in range(3):
        module = grid.module(k)
        module.drop.p = 0.0
        torch.optim.swa_utils.update_bn(inputs.split(16), module)
        for name, value in module.named_buffers():
            torch.testing.assert_close(found.buffers[name][k], value, rtol=1e-12, atol=1e-13)
    for plane, how in (("line", "recomputed"), ("random", "kept")):
        made = landscape(members, CLASSES, plane=plane, grid=(2,), reach=0.5, splits=["test"])
        assert made.statistics == how
        assert f"are {'recomputed' if plane == 'line' else 'as the members have them'}" in " ".join(
            made.notes
        )
    own = landscape(members, CLASSES, plane="line", grid=3, splits=["train"])
    assert own.of()[0, 1] == pytest.approx(
        ms.evaluate(
            recomputed(slices.line(members[[0]], members[[1]]).grid([0.5]), CLASSES), CLASSES, split="train"
        )["loss"][0]
    )


def test_members_of_a_run_are_those_that_finished():
    population = LINEAR.sample(seeds=2, lr=[0.01, 1e200])
    run = ms.fit(population, REGRESSION, loss="mse", optimizer="sgd", epochs=4, plan=PLAN)
    assert len(run.diverged) == 2
    found = landscape(run, REGRESSION, grid=(3,), **TRAIN)
    assert found.marks.member.tolist() == [0, 1]
    assert found.marks.lr.tolist() == [0.01, 0.01]
    assert found.notes[0].startswith("2 of the run's 4 members are left out")


def test_files_hold_all_of_it(tmp_path):
    found = landscape(NET.sample(2), CLASSES, grid=3, reach=1.0)
    found.save(tmp_path / "l.npz")
    held = np.load(tmp_path / "l.npz")
    assert np.array_equal(held["train_loss"], found.of())
    assert np.array_equal(held["x"], found.grid[0])
    assert held["marks.seed"].tolist() == [0, 1]
    pytest.importorskip("pyarrow")
    found.save(tmp_path / "l.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "l.parquet"), found.frame)
    assert "train_loss" in found._repr_html_()


WIDTHS = ms.ModelSpace(DummyNet).sample(2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"plane": "seeds"}, "plane='seeds' goes through 3 members; received 2"),
        ({"plane": "sees"}, "sees"),
        ({"plane": slices.random(WIDTHS[[0]])}, "of another space"),
        ({"grid": 1}, "at least 2; received 1"),
        ({"grid": (3, 3), "plane": "line"}, "each of t, at least 2"),
        ({"reach": -1.0}, "reach is a length"),
        ({"reach": 0}, "one point along an axis"),
        ({"plane": slices.bezier(NET.sample(2)), "reach": 1.0, "grid": 3}, "0 for a curve"),
        ({"statistics": "new"}, "new"),
        ({"splits": ["tests"]}, "tests"),
        ({"metrics": ["acuracy"]}, "acuracy"),
        ({"loss": None, "objective": 3}, "objective"),
    ],
)
def test_what_can_t_be_asked_is_said(change, said):
    with pytest.raises(ModelspaceError, match=said):
        landscape(NET.sample(2), CLASSES, **({"grid": (3,), "reach": 1.0} | change))


def test_members_that_differ_in_what_is_measured_have_no_common_slice():
    members = NET.sample(1, loss=["cross_entropy", "focal"])
    assert landscape(members, CLASSES, grid=(3,), reach=1.0).of().shape == (2, 3)
    with pytest.raises(ModelspaceError, match="members have a loss of their own"):
        landscape(members.with_columns(seed=[0, 1]), CLASSES, plane=slices.random(NET.sample(1)), grid=3)
    bad = ms.Population(LINEAR, torch.full((1, 8), torch.nan).double(), {}, LINEAR.sample(1).table)
    with pytest.raises(ModelspaceError, match=r"seed 0\): a member that diverged"):
        landscape(bad, REGRESSION, **TRAIN)
