import numpy as np
import pandas as pd
import pytest
import torch
from support.cases import DummyNet, Residual, named
from torch import nn

from modelspace import ModelSpace, Population
from modelspace.errors import ModelspaceError
from modelspace.space._columns import product_table


@pytest.fixture
def population():
    return ModelSpace(Residual).sample(seeds=range(4), lr=[0.1, 0.2])


@pytest.mark.parametrize(
    ("which", "rows"),
    [
        (2, [2]),
        (-1, [7]),
        (slice(1, 6, 2), [1, 3, 5]),
        ([3, 0, 3], [3, 0, 3]),
        (np.arange(8) % 2 == 0, [0, 2, 4, 6]),
        (torch.arange(8) > 5, [6, 7]),
        (torch.tensor([4, 1]), [4, 1]),
        ([False] * 7 + [True], [7]),
        ([], []),
    ],
    ids=str,
)
def test_selecting_takes_rows_buffers_and_table_together(population, which, rows):
    population.buffers["norm1.running_mean"] += torch.arange(8.0)[:, None]
    chosen = population[which]
    assert torch.equal(chosen.points, population.points[rows])
    assert torch.equal(chosen.buffers["norm1.running_mean"], population.buffers["norm1.running_mean"][rows])
    assert chosen.table["seed"].tolist() == population.table["seed"].iloc[rows].tolist()
    assert chosen.table.index.tolist() == list(range(len(rows)))


def test_query_selects_by_the_table(population):
    assert population.query("lr > 0.15 and seed < 2").table["seed"].tolist() == [0, 1]
    with pytest.raises(ModelspaceError, match=r"query 'lrr > 1': .*columns: seed, lr"):
        population.query("lrr > 1")


@pytest.mark.parametrize("which", [8, -9, [0, 8]])
def test_no_such_member(population, which):
    with pytest.raises(ModelspaceError, match="the population has 8, 0 to 7"):
        population[which]


def test_a_mask_must_have_one_entry_a_member(population):
    with pytest.raises(ModelspaceError, match=r"one entry a member \(8\); received 3"):
        population[np.array([True, False, True])]


def test_rows_are_contiguous_and_a_copy_is_its_own(population):
    assert population.points.is_contiguous()
    copy = population.copy()
    copy.points += 1
    copy.buffers["norm1.running_var"] += 1
    copy.table["lr"] = 0.0
    fresh = ModelSpace(Residual).sample(seeds=range(4), lr=[0.1, 0.2])
    assert torch.equal(population.points, fresh.points)
    assert torch.equal(population.buffers["norm1.running_var"], fresh.buffers["norm1.running_var"])
    assert population.table.equals(fresh.table)


def test_columns_can_be_added(population):
    more = population.with_columns(momentum=0.9, weight_decay=np.arange(8.0))
    assert more.table["momentum"].tolist() == [0.9] * 8
    assert more.table["weight_decay"].tolist() == list(range(8))
    assert "momentum" not in population.table


def test_shapes_must_agree():
    space = ModelSpace(DummyNet)
    with pytest.raises(
        ModelspaceError, match=r"2 members of DummyNet are a matrix of 2×2512; received \(3, 2512\)"
    ):
        Population(space, torch.zeros(3, 2512), {}, product_table(2, {}))
    space = ModelSpace(Residual)
    points = torch.zeros(1, space.dimension)
    with pytest.raises(ModelspaceError, match=r"norm1\.running_mean must be \(1, 4\); received nothing"):
        Population(space, points, {}, pd.DataFrame({"seed": [0]}))


def test_iterating_gives_the_modules(population):
    points = [population.space.point(module) for module in population]
    assert torch.equal(torch.stack(points), population.points)


def test_a_space_that_changes_with_its_seed_is_refused():
    widths = iter([2, 2, 2, 3])

    def fickle():
        return nn.ModuleDict({f"width{next(widths)}": nn.Linear(2, 2)})

    with pytest.raises(ModelspaceError, match="not one space"):
        ModelSpace(fickle).sample(seeds=3).points


def test_the_card_is_one_line_and_a_table(population):
    head, *rows = repr(population).splitlines()
    assert head.startswith("Population of 8 points of Residual: P ∈ ℝ^{8×")
    assert len(rows) == 9
    assert "<table" in population._repr_html_()


def test_html_escapes():
    case = named("MLP tanh")
    population = case.space().sample(seeds=1).with_columns(source="<script>x</script>")
    assert "<script>" not in population._repr_html_()


def test_points_are_drawn_when_they_are_asked_for_and_a_selection_draws_its_own(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        ModelSpace, "draw", lambda space, seed, draw=ModelSpace.draw: drawn.append(seed) or draw(space, seed)
    )
    population = ModelSpace(DummyNet).sample(seeds=1000, lr=[0.1, 0.2])
    assert "P ∈ ℝ^{2000×2512}" in repr(population)
    chosen = population.query("lr > 0.15").with_columns(momentum=0.9)[[7, 3, 7]].to("cpu")
    assert drawn == []
    assert chosen.points.shape == (3, 2512)
    assert drawn == [7, 3]
    assert torch.equal(chosen[1].points[0], ModelSpace(DummyNet).point(chosen.module(1)))
    assert drawn == [7, 3]


def test_a_population_knows_whether_its_points_are_those_of_its_seeds(population):
    assert population.is_drawn
    assert population[[1, 2]].copy().is_drawn
    taken = population.copy()
    taken.points[0] += 1
    assert not taken.is_drawn
    assert not taken[[1]].is_drawn
    moved = population.copy()
    moved.buffers["norm1.running_mean"] += 1
    assert not moved.is_drawn
    other = population.copy()
    other.points = other.points * 2
    assert not other.is_drawn
    assert not population.with_columns(seed=0).is_drawn
    assert population.is_drawn


def test_each_row_is_its_seed_s_point_also_where_settings_repeat_the_seeds():
    space = ModelSpace(DummyNet)
    population = space.sample(seeds=[3, 1], lr=[0.1, 0.2])
    assert population.table["seed"].tolist() == [3, 1, 3, 1]
    for seed, point in zip(population.table["seed"], population.points, strict=True):
        assert torch.equal(point, space.point(space.draw(seed)))
