"""Objectives as a column: each member its own, each with a program of its own, in one run and one table."""

import pytest
import torch
import torch.nn.functional as F
from support import plans, works
from support.runs import assert_same

import modelspace as ms
from modelspace.data import of_splits
from modelspace.errors import ModelspaceError

G = torch.Generator().manual_seed(0)
DATA = of_splits(*(works.labelled(n, G) for n in (20, 6, 6)))
SPACE = ms.ModelSpace(lambda: works.mlp(6, 8, 3))
SETTINGS = {
    "batch_size": 5,
    "epochs": 2,
    "metrics": [],
    "lowering": "vmap",
    "shard": 3,
    "compile": False,
    "threads": 1,
    "workers": 1,
}


def entropy(model, batch):
    z = model(batch[0])
    return {"loss": F.cross_entropy(z, batch[1]), "accuracy": (z.argmax(1) == batch[1]).double().mean()}


def smoothed(model, batch, share=0.1):
    return {
        **entropy(model, batch),
        "loss": F.cross_entropy(model(batch[0]), batch[1]) + share * model(batch[0]).square().mean(),
    }


def bare(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def fit(population, objective, **settings):
    return plans.fit(population, DATA, objective=objective, **{**SETTINGS, **settings})


BOTH = {"entropy": entropy, "smoothed": smoothed}


def test_each_member_is_as_in_a_fit_of_its_objective(tmp_path):
    population = SPACE.sample(seeds=3, lr=[0.05], objective=["entropy", "smoothed"], share=[0.1, 0.5])
    run = fit(population, BOTH, out=tmp_path / "run")
    for name, function in BOTH.items():
        rows = run.table.query(f"objective == '{name}'").index
        columns = {"share": [0.1, 0.5]} if name == "smoothed" else {}
        alone = fit(SPACE.sample(seeds=3, lr=[0.05], **columns), function)
        ours = run.population[rows][:3] if name == "entropy" else run.population[rows]
        assert torch.equal(ours.points, alone.population.points)
        assert (
            run.table["validation_loss"][rows][: len(alone.table)].to_numpy()
            == alone.table["validation_loss"]
        ).all()
    assert len(run.plans) == 2
    scores = ms.evaluate(run.population, DATA, objective=BOTH, split="validation", batch_size=5)
    assert scores["loss"].to_numpy() == pytest.approx(run.table["validation_loss"].to_numpy(), rel=1e-5)
    again = fit(population, BOTH, out=tmp_path / "run")
    assert_same(again, run)


def test_the_best_by_what_an_objective_names_has_more_of_it():
    population = SPACE.sample(seeds=6, lr=[0.05])
    everyone = fit(population, entropy)
    best = fit(population, entropy, keep=1)
    assert best.monitor == "validation_accuracy"
    assert best.table["validation_accuracy"][best.kept[0]] == everyone.table["validation_accuracy"].max()


def test_what_is_no_choice_of_objectives_is_named():
    several = SPACE.sample(seeds=1, lr=[0.05], objective=["entropy", "smoothd"])
    with pytest.raises(ModelspaceError, match=r"unknown objective 'smoothd'.*smoothed"):
        fit(several, BOTH)
    with pytest.raises(ModelspaceError, match="a column objective says which of several"):
        fit(several, entropy)
    with pytest.raises(ModelspaceError, match="a column objective says which of several"):
        fit(SPACE.sample(seeds=1, lr=[0.05]), BOTH)
    with pytest.raises(
        ModelspaceError, match=r"different values beside their loss: entropy \(accuracy\) and bare \(none\)"
    ):
        fit(
            SPACE.sample(seeds=1, lr=[0.05], objective=["entropy", "bare"]),
            {"entropy": entropy, "bare": bare},
        )
    with pytest.raises(ModelspaceError, match="objective is an empty dict"):
        fit(several, {})
    with pytest.raises(ModelspaceError, match="can't be chosen among by their own values"):
        ms.explore(
            SPACE,
            DATA,
            objective=BOTH,
            columns={"objective": ["entropy", "smoothed"]},
            seeds=2,
            fresh_seeds=2,
        )
