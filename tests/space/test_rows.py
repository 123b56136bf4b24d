"""Populations whose rows are made when they are asked for: everything goes on, a shard at a time."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import modelspace as ms
from modelspace import Population
from modelspace.errors import ModelspaceError
from modelspace.population import population_of
from modelspace.runs.shards import keys_of


class Asked:
    """Makes points of a column; remembers how many rows it was asked for at once."""

    def __init__(self, space):
        self.space, self.rows, self.devices = space, [], []

    def __call__(self, rows):
        self.rows.append(len(rows))
        scale = torch.tensor(rows["scale"].to_numpy(), dtype=self.space.dtype)
        buffers = {
            n: b.expand(len(rows), *b.shape).clone()
            for n, b in self.space.buffers_of(self.space.template).items()
        }
        return scale[:, None] * torch.ones(self.space.dimension, dtype=self.space.dtype), buffers


def lazy(count=6, space=None):
    space = space or ms.ModelSpace(nn.BatchNorm1d, num_features=3, input_shape=(3,))
    make = Asked(space)
    table = pd.DataFrame({"scale": np.arange(count, dtype=float), "eps": [1e-5, 1e-3] * (count // 2)})
    return Population.from_rows(space, table, make), make


def test_a_selection_stays_unmade_and_is_the_same_points():
    whole, make = lazy()
    assert not whole.is_drawn
    assert not whole.is_made
    some = whole[[4, 1]].query("scale > 2").with_columns(scale=9.0, seed=3).without_columns("eps").to("cpu")
    assert make.rows == []
    assert not some.is_made
    assert some.points.unique().tolist() == [4.0]  # of the rows as they were given
    assert not some.is_drawn
    assert some.is_made
    assert torch.equal(whole.points[:, 0], torch.arange(6.0))
    assert torch.equal(whole[[5]].points, whole.points[[5]])


def test_members_are_of_the_programs_that_their_columns_say():
    whole, make = lazy()
    parts = whole.parts()
    assert [rows.tolist() for rows, _ in parts] == [[0, 2, 4], [1, 3, 5]]
    assert [part.space.hyperparameters["eps"] for _, part in parts] == [1e-5, 1e-3]
    assert make.rows == []
    module = whole.module(3)
    assert module.eps == 1e-3
    assert module.weight.tolist() == [3, 3, 3]
    assert make.rows == [1]
    assert torch.equal(whole.points[:, 0], torch.arange(6.0))


def test_another_type_is_made_so():
    whole, _ = lazy()
    plain = whole.without_columns("eps")
    double = plain.in_dtype(torch.float64)
    assert not double.is_made
    assert double.points.dtype is torch.float64
    assert double.buffers["running_mean"].dtype is torch.float64
    assert double.buffers["num_batches_tracked"].dtype is torch.int64
    assert double.table.equals(plain.table)


def test_scores_outputs_files_keys_and_fits_are_those_of_made_points(tmp_path):
    space = ms.ModelSpace(nn.Linear, in_features=4, out_features=3)
    whole, _ = lazy(4, space)
    whole = whole.without_columns("eps")
    made = lazy(4, space)[0].without_columns("eps").copy()
    generator = torch.Generator().manual_seed(0)
    data = ms.data.load((torch.randn(40, 4, generator=generator), torch.arange(40) % 3))
    assert ms.evaluate(whole, data).equals(ms.evaluate(made, data))
    assert torch.equal(ms.predict(whole, data.test), ms.predict(made, data.test))
    assert not whole.is_made
    assert np.array_equal(keys_of(whole[:2]), keys_of(made[:2]))
    ms.save(whole[1:], tmp_path / "p.safetensors")
    assert torch.equal(ms.load(tmp_path / "p.safetensors", space).points, made.points[1:])
    plan = {"lowering": "loop", "shard": 2, "compile": False, "threads": 1, "workers": 1}
    runs = [
        ms.fit(p.without_columns("scale").with_columns(seed=[0, 1, 2]), data, epochs=1, plan=plan)
        for p in (whole[1:], made[1:])
    ]
    assert torch.equal(runs[0].population.points, runs[1].population.points)


def test_a_grid_is_evaluated_in_the_memory_of_a_shard():
    space = ms.ModelSpace(nn.Linear, in_features=200, out_features=20)
    make = Asked(space)
    whole = Population.from_rows(space, pd.DataFrame({"scale": np.linspace(0, 1, 51 * 51)}), make)
    data = ms.data.load((torch.randn(64, 200), torch.arange(64) % 20))
    _ = ms.evaluate(whole, data, ["loss"], split="train")
    assert sum(make.rows) >= 51 * 51
    assert max(make.rows) <= 600
    assert not whole.is_made


def test_no_room_and_no_points_are_said(monkeypatch):
    whole, _ = lazy()
    monkeypatch.setattr("modelspace.space._space.free_bytes", lambda device: 100)
    with pytest.raises(ModelspaceError, match=r"6 points of 6 numbers take 144 B.*a shard at a time"):
        _ = whole.without_columns("eps").points
    monkeypatch.undo()
    short = Population.from_rows(whole.space, whole.table[["scale"]], lambda rows: (torch.zeros(6, 2), {}))
    with pytest.raises(ModelspaceError, match=r"a matrix of 6×6; received \(6, 2\)"):
        _ = short.points


def test_made_elsewhere_seeds_are_still_their_own():
    population = ms.ModelSpace(nn.Linear, in_features=2, out_features=2).sample(3)
    assert population.is_drawn
    assert not population.is_made
    assert population[[1]].is_drawn
    assert torch.equal(population_of([population.module(1)]).points, population.points[[1]])
