"""Columns whose values are each a program of their own: one run, one table, each member as by itself."""

import pytest
import torch
from support.cases import named

import modelspace as ms
from modelspace.errors import ModelspaceError

CASE = named("MLP tanh")
SETTINGS = {
    "epochs": 2,
    "plan": {"lowering": "vmap", "compile": False, "shard": 3, "threads": 1, "workers": 1},
}


def fit(population, **settings):
    return ms.fit(population, CASE.data(), **{**SETTINGS, **settings})


@pytest.mark.parametrize(
    ("columns", "alone"),
    [
        ({"batch_size": [2, 5]}, lambda row: {"batch_size": row.batch_size}),
        ({"optimizer": ["sgd", "adamw"]}, lambda row: {"optimizer": row.optimizer}),
        (
            {"schedule": ["cosine", "constant"], "accumulate": [1, 2]},
            lambda row: {"schedule": row.schedule, "accumulate": row.accumulate},
        ),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_each_member_is_as_in_a_fit_of_its_own(columns, alone, tmp_path):
    population = CASE.space().sample(seeds=2, lr=[0.05], **columns)
    settings = {} if "batch_size" in columns else {"batch_size": 5}
    run = fit(population, out=tmp_path / "run", **settings)
    assert run.table[list(columns)].equals(population.table[list(columns)])
    assert len(run.plans) == len(population) // 2
    for k, row in enumerate(population.table.itertuples()):
        single = CASE.space().sample(seeds=[row.seed], lr=[0.05])
        by_itself = fit(single, **{**settings, **alone(row)})
        assert torch.allclose(run.population.points[k], by_itself.population.points[0], rtol=1e-5, atol=1e-6)
        assert run.table["steps"][k] == by_itself.table["steps"][0]
    again = fit(population, out=tmp_path / "run", **settings)
    assert torch.equal(again.population.points, run.population.points)
    opened = ms.open_run(tmp_path / "run", CASE.space())
    assert [str(plan) for plan in opened.plans] == [str(plan) for plan in again.plans]


def test_a_part_reads_its_own_optimizer_s_columns():
    population = CASE.space().sample(seeds=1, lr=[0.05], optimizer=["sgd", "adam"], momentum=[0.0, 0.9])
    run = fit(population)
    sgd = run.table["optimizer"] == "sgd"
    points = run.population.points
    assert not torch.equal(points[sgd.argmax()], points[sgd.argmax() + 1])  # momentum tells with SGD
    adam = [k for k in range(4) if not sgd[k]]
    assert torch.equal(points[adam[0]], points[adam[1]])  # and is not read with Adam


def test_what_is_no_value_of_its_setting_is_named():
    with pytest.raises(ModelspaceError, match="column optimizer: unknown optimizer 'adm'"):
        fit(CASE.space().sample(seeds=1, lr=[0.1], optimizer=["sgd", "adm"]))
    with pytest.raises(ModelspaceError, match="column batch_size: batch_size is at least 1; received 0"):
        fit(CASE.space().sample(seeds=1, lr=[0.1], batch_size=[5, 0]))
    with pytest.raises(ModelspaceError, match="momentum"):
        fit(CASE.space().sample(seeds=1, lr=[0.1], momentum=[0.9]), optimizer="adam")


class Leaky(torch.nn.Module):
    def __init__(self, slope: float = 0.1, dropout: float = 0.0, width: int = 8):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Linear(6, width),
            torch.nn.LeakyReLU(slope),
            torch.nn.Dropout(dropout),
            torch.nn.Linear(width, 3),
        )

    def forward(self, x):
        return self.body(x)


def test_arguments_of_the_architecture_that_leave_its_parameters_alone_are_columns():
    space, data = ms.ModelSpace(Leaky), CASE.data()
    population = space.sample(seeds=2, lr=[0.05], slope=[0.0, 0.5], dropout=[0.0, 0.3])
    run = fit(population)
    scores = ms.evaluate(run.population, data)
    for k, row in enumerate(population.table.itertuples()):
        alone = ms.ModelSpace(Leaky, slope=row.slope, dropout=row.dropout).sample(seeds=[row.seed], lr=[0.05])
        assert torch.equal(alone.points[0], population.points[k])
        trained = fit(alone)
        assert torch.allclose(run.population.points[k], trained.population.points[0], rtol=1e-5, atol=1e-6)
        module = run.population.module(k)
        assert (module.body[1].negative_slope, module.body[2].p) == (row.slope, row.dropout)
        score = ms.evaluate(trained.population, data)
        assert scores["loss"].iloc[k] == pytest.approx(score["loss"].iloc[0], rel=1e-5)


class Trained(torch.nn.Module):
    """As Lightning modules do, it takes numbers of its training."""

    def __init__(self, lr: float = 1e-3, batch_size: int = 4):
        super().__init__()
        self.lr, self.body = lr, torch.nn.Linear(6, 3)

    def forward(self, x):
        return self.body(x)


def test_numbers_of_the_training_are_not_the_architecture_s():
    columns = {"lr": [0.01, 0.1], "batch_size": [4, 8]}
    runs = [fit(ms.ModelSpace(kind).sample(seeds=1, **columns)) for kind in (Trained, lambda: Trained().body)]
    assert torch.equal(*(run.population.points for run in runs))
    assert runs[0].table["train_loss"].nunique() == 4


def test_seeds_and_samples_are_not_the_architecture_s():
    class Seeded(Leaky):
        def __init__(self, seed: int = 0, samples: int = 1):
            super().__init__()

    space = ms.ModelSpace(Seeded)
    population = space.sample(seeds=2, lr=[0.05], samples=[5, 20])
    assert len(population.parts()) == 1
    assert fit(population, batch_size=5).table["steps"].tolist() == [2, 2, 8, 8]


def test_a_name_of_both_is_refused():
    space = ms.ModelSpace(Leaky).sample(seeds=1, slope=[0.0, 0.5])
    with pytest.raises(
        ModelspaceError, match="column slope is an argument of Leaky as well as a hyper-parameter"
    ):
        fit(space, objective=lambda model, batch, slope=0.1: model(batch[0]).square().mean())
