from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import modelspace as ms
from modelspace.errors import ModelspaceError
from modelspace.geometry.trajectory import _centred, _walks, trajectory
from modelspace.runs import Held

DATA = ms.data.load((torch.randn(60, 4), torch.arange(60) % 3))


@pytest.fixture(scope="module")
def run():
    space = ms.ModelSpace(nn.Linear, in_features=4, out_features=3, dtype=torch.float64)
    return ms.fit(
        space.sample(seeds=3, lr=[0.1]), DATA, epochs=6, plan="vmap", record="points", optimizer="sgd"
    )


class Recorded:
    """A run's source that has made-up points."""

    def __init__(self, points, steps=None):
        members, times, dimension = points.shape
        self.space = ms.ModelSpace(
            nn.Linear, in_features=dimension, out_features=1, bias=False, dtype=points.dtype
        )
        steps = torch.arange(times).expand(members, -1) if steps is None else steps
        room = {"values": {"points": points}, "steps": {"points": steps}}
        self.records, self.history = Held([(np.arange(members), room)]).records(members), {}

    def kept(self):
        return np.zeros(0, dtype=np.int64), None


def ways_of(run, points, steps=None, status="finished", **given):
    source = Recorded(points, steps)
    members = run.members.iloc[[0] * len(points)].reset_index(drop=True)
    states = np.array([status] * len(points), dtype=object)
    return trajectory(replace(run, members=members, status=states, source=source), **given)


def test_the_principal_plane_is_that_of_a_singular_value_decomposition(run):
    found, points = trajectory(run), run.records["points"].values
    centred = points.flatten(0, 1) - points.flatten(0, 1).mean(0)
    values, axes = torch.linalg.svd(centred, full_matrices=False)[1:]
    np.testing.assert_allclose(found.explained, (values**2 / (values**2).sum())[:10], atol=1e-12)
    at = (centred @ axes[:2].T).view(3, -1, 2)
    np.testing.assert_allclose(np.abs(found.coordinates), at.abs(), atol=1e-10)
    assert (found.coordinates[0, -1] > 0).all()
    np.testing.assert_allclose(found.distance, (points - points[:, :1]).norm(dim=2), atol=1e-12)
    np.testing.assert_allclose(found.norm, points.norm(dim=2), atol=1e-12)
    marks = found.slice.marks
    t = marks[list(found.slice.axes)].to_numpy()
    off = (found.slice.points(t) - points.flatten(0, 1)).norm(dim=1)
    np.testing.assert_allclose(marks["distance"], off, atol=1e-10)
    assert len(found.table) == 3 * 7
    assert "random_walk" in repr(found)
    assert "<td>" in found._repr_html_()


def test_a_walk_s_expected_shares_are_the_closed_form():
    def shares(times):
        walk = _centred(_walks(np.minimum.outer(np.arange(times), np.arange(times)), [np.arange(times)]))
        return np.linalg.eigvalsh(walk)[::-1]

    k = np.arange(1, 12)
    np.testing.assert_allclose(shares(12)[:-1], 1 / (4 * np.sin(np.pi * k / 24) ** 2), rtol=1e-10)
    long = shares(1200)
    np.testing.assert_allclose(long[:3] / long.sum(), [0.608, 0.152, 0.068], atol=5e-4)


@pytest.mark.parametrize("members", [1, 3])
def test_simulated_walks_of_many_dimensions_explain_what_the_null_says(run, members):
    generator, shown = torch.Generator().manual_seed(members), []
    times = torch.tensor([0, 1, 2, 4, 8, 12, 16, 24, 32, 40, 50])
    for _ in range(5):
        moves = torch.randn(members, 50, 8000, generator=generator, dtype=torch.float64)
        moves *= torch.arange(1, members + 1)[:, None, None]
        starts = 3 * torch.randn(members, 1, 8000, generator=generator, dtype=torch.float64)
        walks = torch.cat([starts, starts + moves.cumsum(1)], 1)[:, times]
        found = ways_of(run, walks, times.expand(members, -1))
        shown.append(found.explained[:4] - found.null[:4])
        assert np.nanmedian(found.turning) == pytest.approx(90, abs=2)
    error = np.std(shown, axis=0, ddof=1) / 5**0.5
    assert (np.abs(np.mean(shown, axis=0)) < 4 * error + 2e-3).all()
    if members == 1:
        spread = found.null[0] * (2 / 8000) ** 0.5
        assert np.std(shown, axis=0, ddof=1)[0] < 2 * spread


def test_turning_is_the_angle_between_steps(run):
    way = torch.tensor([[0.0, 0], [1, 0], [1, 1], [1, 2], [1, 1], [1, 1]], dtype=torch.float64)
    found = ways_of(run, way[None])
    np.testing.assert_allclose(found.turning[0], [np.nan, 90, 0, 180, np.nan, np.nan], atol=1e-6)


def test_members_of_unequal_times_end_with_nan(run):
    points = torch.randn(2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    steps = torch.arange(6).repeat(2, 1)
    points[1, 4:], steps[1, 4:] = torch.nan, -1
    found = ways_of(run, points, steps, status="diverged", members=[0, 1])
    assert found.steps[1].tolist() == [0, 1, 2, 3, -1, -1]
    assert np.isnan(found.norm[1, 4:]).all()
    assert np.isnan(found.turning[1, 3:]).all()
    assert np.isfinite(found.coordinates[0]).all()
    assert len(found.table) == 10


def test_a_run_in_a_folder_gives_the_same(run, tmp_path):
    population = run.space.sample(seeds=3, lr=[0.1])
    given = {"epochs": 6, "plan": {"lowering": "vmap", "shard": 2, "compile": False}, "record": "points"}
    folder = ms.fit(population, DATA, optimizer="sgd", out=tmp_path / "run", **given)
    found, same = trajectory(folder, members=[2, 0]), trajectory(run, members=[2, 0])
    assert found.members["member"].tolist() == [2, 0]
    np.testing.assert_allclose(found.coordinates, same.coordinates, atol=1e-9)
    assert found.slice.marks["label"].iloc[0] == "member 2, step 0"


def test_bad_input_is_one_clear_line(run):
    bare = ms.fit(run.space.sample(seeds=1, lr=[0.1]), DATA, epochs=1, plan="vmap")
    two = torch.zeros(1, 2, 3)
    for call, said in [
        (lambda: trajectory(bare), "no record 'points'"),
        (lambda: ways_of(run, two), r"member 0 \(finished\) was recorded at 2 times: record="),
        (lambda: ways_of(run, two, status="diverged", members=[0]), r"member 0 \(diverged\) .* leave it out"),
        (lambda: ways_of(run, two, status="diverged"), "none of the run's 1 members ended without diverging"),
        (lambda: ways_of(run, torch.zeros(1, 4, 3)), "span fewer than 2 dimensions"),
        (lambda: trajectory(run, dims=99), "span fewer than 99 dimensions"),
    ]:
        with pytest.raises(ModelspaceError, match=said):
            call()
