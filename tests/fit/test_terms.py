"""The loss, its parameters and label noise as columns: each member is trained as alone, under its own loss."""

import pytest
import torch
from support import plans
from support.cases import named
from support.plain import relative_error, trained

import modelspace as ms
from modelspace.data import noisy_labels
from modelspace.engine import Lowering
from modelspace.errors import ModelspaceError

CASE = named("MLP tanh")
SETTINGS = {"batch_size": 5, "epochs": 3}


def alone(population, data, loss):
    """The same members one after the other in the plain loop, all under one loss."""
    return trained(population, data, "sgd", steps=12, batch_size=5, loss=loss)[0]


@pytest.mark.parametrize("lowering", ["vmap", "loop"])
def test_members_under_several_losses_are_the_plain_loops_under_each(lowering: Lowering):
    data, space = CASE.data(), CASE.space(torch.float64)
    names = ["cross_entropy", "hinge", "logistic"]
    population = space.sample(seeds=3, loss=names, lr=[0.1])
    run = plans.fit(population, data, optimizer="sgd", lowering=lowering, **SETTINGS)
    for name in names:
        rows = [k for k, each in enumerate(run.table["loss"]) if each == name]
        expected = alone(space.sample(seeds=3, lr=[0.1]), data, name)
        assert relative_error(run.population.points[rows], expected) < 1e-12, name


@pytest.mark.slow
def test_compiled_is_eager():
    data, space = CASE.data(), CASE.space(torch.float64)
    population = space.sample(seeds=2, loss=["hinge", "logistic"], lr=[0.1])
    eager = plans.fit(population, data, compile=False, lowering="vmap", **SETTINGS)
    compiled = plans.fit(population, data, compile=True, lowering="vmap", **SETTINGS)
    assert relative_error(compiled.population.points, eager.population.points) < 1e-12
    assert torch.allclose(
        torch.tensor(compiled.history["validation_loss"]), torch.tensor(eager.history["validation_loss"])
    )


def test_validation_and_evaluation_are_under_the_member_s_own_loss():
    data, space = CASE.data(), CASE.space()
    run = plans.fit(space.sample(seeds=2, loss=["hinge", "cross_entropy"], lr=[0.1]), data, **SETTINGS)
    found = ms.evaluate(run.population, data, ["loss"], split="validation")
    for k, name in enumerate(found["loss"]):
        outputs = run.population.module(k).eval()(data.validation.inputs)
        expected = ms.losses.resolve(name)(outputs, data.validation.labels).item()
        assert run.history["validation_loss"][k, -1] == pytest.approx(expected, rel=1e-5)
        assert found["validation_loss"][k] == pytest.approx(expected, rel=1e-5)


def test_members_that_go_astray_under_one_loss_leave_those_of_another_alone():
    space = CASE.space(torch.float64)
    both = space.sample(seeds=2, loss=["hinge", "cross_entropy"], lr=[1e300])
    one = plans.fit(space.sample(seeds=2, loss=["cross_entropy"], lr=[0.1]), CASE.data(), shard=2, **SETTINGS)
    mixed = both.with_columns(lr=[1e300, 1e300, 0.1, 0.1])
    run = plans.fit(mixed, CASE.data(), optimizer="adam", lowering="vmap", shard=4, compile=False, **SETTINGS)
    assert relative_error(run.population.points[2:], one.population.points) < 1e-12


def test_label_noise_trains_on_the_noisy_labels():
    data, space = CASE.data(), CASE.space(torch.float64)
    run = plans.fit(
        space.sample(seeds=2, label_noise=[0.0, 0.5], lr=[0.1]), data, optimizer="sgd", **SETTINGS
    )
    for k, row in enumerate(run.table.to_dict("records")):
        shares = torch.tensor([row["label_noise"]], dtype=torch.float64)
        labels = noisy_labels(data.train.labels, shares, torch.tensor([row["seed"]]), data.classes)[0]
        noisy = ms.data.Data("noisy", ms.data.Split(data.train.inputs, labels), data.validation, data.test)
        expected = alone(space.sample(seeds=[row["seed"]], lr=[0.1]), noisy, "cross_entropy")
        assert relative_error(run.population.points[[k]], expected) < 1e-12


@pytest.mark.parametrize("accumulate", [1, 2])
def test_label_noise_with_each_member_s_own_order(accumulate):
    data, space = CASE.data(), CASE.space(torch.float64)
    settings = {"optimizer": "sgd", "accumulate": accumulate, **SETTINGS}
    noise = space.sample(seeds=3, label_noise=[0.4], lr=[0.1])
    together = plans.fit(noise.with_columns(data_seed=[5, 6, 5]), data, lowering="vmap", **settings)
    for k, seed in enumerate([5, 6, 5]):
        single = plans.fit(noise[[k]], data, data_seed=seed, lowering="loop", **settings)
        assert relative_error(together.population.points[[k]], single.population.points) < 1e-12


def test_what_makes_no_sense_is_said():
    data, space = CASE.data(), CASE.space()
    with pytest.raises(ModelspaceError, match="unknown loss 'hing': did you mean 'hinge'"):
        plans.fit(space.sample(seeds=2, loss=["hing"]), data)
    with pytest.raises(ModelspaceError, match="share of wrong labels label_noise must be between 0 and 1"):
        plans.fit(space.sample(seeds=2, label_noise=[2.0]), data)
    with pytest.raises(ModelspaceError, match="label_noise is a condition, not a choice"):
        ms.explore(space, data, columns={"label_noise": [0.0, 0.5]})


def test_accuracy_is_measured_where_outputs_score_classes():
    data, space = CASE.data(), CASE.space()
    scored = plans.fit(space.sample(seeds=2), data, loss="focal", **SETTINGS)
    assert "validation_accuracy" in scored.history
    embedded = plans.fit(space.sample(seeds=2), data, loss="triplet", **SETTINGS)
    assert "validation_accuracy" not in embedded.history


def test_a_parameter_of_the_loss_is_a_column():
    data, space = CASE.data(), CASE.space(torch.float64)
    run = plans.fit(
        space.sample(seeds=2, gamma=[0.0, 3.0], lr=[0.1]), data, loss="focal", optimizer="sgd", **SETTINGS
    )
    for gamma in (0.0, 3.0):
        rows = [k for k, each in enumerate(run.table["gamma"]) if each == gamma]
        expected = alone(space.sample(seeds=2, lr=[0.1]), data, ms.losses.Focal(gamma=gamma))
        assert relative_error(run.population.points[rows], expected) < 1e-12
