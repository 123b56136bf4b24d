"""Members of several spaces: columns that change ℝⁿ, in one population, one run and one table."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import modelspace as ms
from modelspace.errors import ModelspaceError
from modelspace.population import joined


class Net(nn.Module):
    def __init__(self, width: int = 8, norm: bool = False, dropout: float = 0.0):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(6, width), nn.BatchNorm1d(width) if norm else nn.Tanh(), nn.Dropout(dropout)
        )
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.body(x))


SPACE = ms.ModelSpace(Net)
COLUMNS = {"width": [4, 7], "norm": [False, True], "dropout": [0.0, 0.5]}
PLAN = {"lowering": "vmap", "compile": False, "shard": 2, "threads": 1, "workers": 1}


def data():
    generator = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(60, 6, generator=generator), torch.arange(60) % 3
    return ms.data.load((inputs + labels[:, None], labels))


def alone(row) -> ms.ModelSpace:
    return ms.ModelSpace(Net, width=row.width, norm=row.norm, dropout=row.dropout)


def same(a: ms.Population, b: ms.Population) -> bool:
    return len(a) == len(b) and all(
        torch.equal(one.points, two.points)
        and all(torch.equal(v, two.buffers[n]) for n, v in one.buffers.items())
        for one, two in zip(a.stacks, b.stacks, strict=True)
    )


def test_each_member_is_drawn_as_by_its_own_space():
    population = SPACE.sample(seeds=2, **COLUMNS)
    assert [len(rows) for rows, _ in population.by_space()] == [4] * 4
    for k, row in enumerate(population.table.itertuples()):
        ours, theirs = population.state_dict(k), alone(row).draw(row.seed).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[n], theirs[n]) for n in ours)
        assert population.module(k).body[2].p == row.dropout
    with pytest.raises(
        ModelspaceError, match=r"points of members of 4 spaces \(ℝ\^43, .*query\('width == …'\)"
    ):
        _ = population.points
    assert "16 points of 4 spaces of Net, n from 43 to 87" in repr(population)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-16, 15), min_size=1, max_size=20), st.booleans())
def test_a_selection_has_the_members_it_was_asked_for(rows, made):
    population = SPACE.sample(seeds=2, **COLUMNS)
    if made:
        _ = population.stacks
    chosen = population[rows]
    assert chosen.table["seed"].tolist() == population.table["seed"].iloc[rows].tolist()
    for k, row in enumerate(rows):
        assert all(
            torch.equal(a, b)
            for a, b in zip(chosen.module(k).parameters(), population.module(row).parameters(), strict=True)
        )
    assert chosen.is_drawn


def test_members_of_one_space_are_its_population():
    wide = SPACE.sample(seeds=2, **COLUMNS).query("width == 7 and norm")
    assert wide.space.is_like(ms.ModelSpace(Net, width=7, norm=True))
    assert tuple(wide.points.shape) == (4, wide.space.dimension)
    assert set(wide.buffers) == {"body.1.running_mean", "body.1.running_var", "body.1.num_batches_tracked"}


def test_copies_devices_types_and_joins_keep_every_member():
    population = SPACE.sample(seeds=2, **COLUMNS)
    assert same(population.copy(), population)
    assert same(population.to("cpu"), population)
    parts = [population[:5], population[5:]]
    assert same(joined(parts, population.table), population)
    double = population.copy()
    double.stacks[0].points.add_(0.125)
    moved = double.in_dtype(torch.float64)
    assert not double.is_drawn
    assert moved.stacks[0].points.dtype == torch.float64
    assert torch.equal(moved.stacks[0].points.float(), double.stacks[0].points)
    with pytest.raises(ModelspaceError, match="members of 4 spaces have a matrix for each; received 1"):
        ms.Population(SPACE, torch.zeros(16, 59), {}, population.table)


def test_a_file_holds_every_member(tmp_path):
    population = SPACE.sample(seeds=2, **COLUMNS)
    ms.save(population, tmp_path / "members.safetensors")
    again = ms.load(tmp_path / "members.safetensors", SPACE)
    assert same(again, population)
    assert again.table.equals(population.table)
    with pytest.raises(ModelspaceError, match="whose layout is not that of"):
        ms.load(tmp_path / "members.safetensors", ms.ModelSpace(nn.Linear, in_features=6, out_features=3))


@pytest.mark.parametrize("keep", ["all", 1])
def test_a_fit_of_several_spaces_is_a_fit_of_each(keep, tmp_path):
    columns = {**COLUMNS, "dropout": [0.0] if keep == 1 else [0.0, 0.5]}
    population = SPACE.sample(seeds=2, lr=[0.05], **columns)
    options = {"epochs": 2, "batch_size": 8, "optimizer": "sgd", "plan": PLAN}
    run = ms.fit(population, data(), **options, keep=keep, out=tmp_path / "run")
    assert len(run.kept) == (16 if keep == "all" else 4)
    assert len(run.plans) == len(population) // 2
    scores = ms.evaluate(run.population, data())
    outputs = run.predict(torch.ones(2, 6))
    for i, k in enumerate(run.kept):
        row = run.table.iloc[k]
        single = ms.fit(alone(row).sample(seeds=[row.seed], lr=[0.05]), data(), **options)
        module = single.population.module(0).eval()
        ours = run.population.module(i).eval()
        assert all(
            torch.allclose(a, b, atol=1e-6)
            for a, b in zip(ours.parameters(), module.parameters(), strict=True)
        )
        assert torch.allclose(outputs[i], module(torch.ones(2, 6)), atol=1e-5)
        assert row.validation_loss == pytest.approx(single.table["validation_loss"][0], rel=1e-5)
        expected = ms.evaluate(single.population, data())["loss"][0]
        assert scores["loss"][i] == pytest.approx(expected, rel=1e-5)
    opened = ms.open_run(tmp_path / "run", SPACE)
    assert same(opened.population, run.population)
    assert np.array_equal(opened.kept, run.kept)
    # More values of a column in the same folder: what is finished is read, not trained.
    more = SPACE.sample(seeds=2, lr=[0.05], **{**columns, "width": [4, 7, 9]})
    longer = ms.fit(more, data(), **options, keep=keep, out=tmp_path / "run")
    known = longer.table["width"] < 9
    assert np.array_equal(longer.table["train_loss"][known], run.table["train_loss"])


def test_a_run_of_several_spaces_goes_on(tmp_path):
    population = SPACE.sample(seeds=2, lr=[0.05], width=[4, 7])
    options = {"batch_size": 8, "plan": PLAN, "precision": "64"}
    run = ms.fit(population, data(), epochs=1, out=tmp_path / "run", **options)
    on = ms.fit(run, data(), epochs=3, **options)
    at_once = ms.fit(population, data(), epochs=3, **options)
    assert same(on.population, at_once.population)


def test_a_family_is_sampled_as_its_spaces_are():
    family = ms.Family(Net, width=[4, 7], norm=[False, True], input_shape=(6,))
    population = family.sample(2, lr=[0.1, 0.2])
    assert population.table.columns.tolist() == ["seed", "width", "norm", "lr"]
    assert len(population) == 16
    for rows, part in population.by_space():
        row = part.table.iloc[0]
        assert part.space.is_like(family.space(width=row["width"], norm=row["norm"]))
        assert part.space.input_shape == (6,)
        assert len(rows) == 4
    assert len(family.sample(2, width=5).by_space()) == 2
    with pytest.raises(ModelspaceError, match="norm is fixed at True in this family"):
        ms.Family(Net, width=[4, 7], norm=True).sample(2, norm=False)
    with pytest.raises(ModelspaceError, match="samples of 2 shapes can't share data"):
        ms.Family(
            nn.Linear, in_features=[3, 4], out_features=2, input_shape=lambda in_features, **_: (in_features,)
        ).sample(1)
    with pytest.raises(ModelspaceError, match=r"width=-1\) can't be built|width=-1"):
        family.sample(1, width=[-1])


def test_explore_chooses_among_spaces():
    found = ms.explore(
        SPACE,
        data(),
        seeds=3,
        columns={"width": [1, 16], "lr": [0.05]},
        fresh_seeds=3,
        epochs=3,
        batch_size=8,
        ground=False,
    )
    assert found.response["width"].tolist() == [1, 16]
    assert found.chosen["width"] == 16
    assert found.space.is_like(ms.ModelSpace(Net, width=16))
