"""What ``fit`` takes by name: written once, told by ``help``, checked, and the same by whatever name it goes."""

import inspect
from dataclasses import fields

import pytest
import torch
from support.cases import BATCH, named

import modelspace as ms
from modelspace.errors import ModelspaceError
from modelspace.fit import Options

CASE = named("MLP tanh")


def fit(population=None, **settings):
    population = population or CASE.space(torch.float32).sample(seeds=3, lr=[0.1])
    return ms.fit(population, CASE.data(), **{"epochs": 1, "batch_size": BATCH, "plan": "vmap", **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epoch": 3}, "unknown setting of fit 'epoch': did you mean 'epochs'"),
        (
            {"epochs": 0, "batch_size": 0},
            "epochs is at least 1; received 0; batch_size is at least 1; received 0",
        ),
        ({"plan": "vmapp"}, "unknown plan 'vmapp': did you mean 'vmap'"),
        ({"plan": {"lowerings": "vmap"}}, "unknown choice of a plan 'lowerings': did you mean 'lowering'"),
        ({"plan": {"lowering": "compile"}}, "unknown lowering 'compile'"),
        ({"precision": 16}, "unknown precision '16'"),
        ({"runner": "rya"}, "unknown runner 'rya': did you mean 'ray'"),
    ],
)
def test_what_is_none_is_refused_by_name(settings, message):
    with pytest.raises(ModelspaceError, match=message):
        fit(**settings)


def test_signature_and_help_are_the_fields():
    parameters = inspect.signature(ms.fit).parameters
    assert list(parameters)[:2] == ["population", "data"]
    assert [(p.name, p.default) for p in list(parameters.values())[2:]] == [
        (each.name, each.default) for each in fields(Options)
    ]
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in list(parameters.values())[2:])
    assert "EarlyStopping | int | None" in str(parameters["early_stopping"])
    told = " ".join(ms.fit.__doc__.split())
    assert all(f"{each.name}: {each.metadata['doc']}" in told for each in fields(Options))
    assert "options:" not in told


def test_a_run_s_plan_is_that_plan_again_bit_for_bit():
    run = fit(plan={"lowering": "vmap", "shard": 2, "compile": False, "threads": 1, "workers": 1})
    assert run.plan.shard == 2
    again, chosen = fit(plan=run.plan), fit(plan=run.plan.choices)
    assert again.plan.choices == chosen.plan.choices == run.plan.choices
    assert torch.equal(again.population.points, run.population.points)


@pytest.mark.parametrize("drawn", [True, False])
def test_64_trains_the_same_points_in_double(drawn):
    space = CASE.space(torch.float32)
    population = space.sample(seeds=3, lr=[0.1])
    if not drawn:
        population.points = population.points * 1.5
    run, by_name = fit(population, precision=64), fit(population, precision="64")
    double = CASE.space(torch.float64).sample(seeds=3, lr=[0.1])
    double.points = population.points.double()
    assert run.population.points.dtype == torch.float64
    assert run.settings["precision"] == "64"
    assert torch.equal(run.population.points, fit(double).population.points)
    assert torch.equal(run.population.points, by_name.population.points)
    assert population.points.dtype == torch.float32
