import numpy as np
import pytest
import torch
from support import plans
from support.cases import BATCH, SAMPLES, named

import modelspace as ms
from modelspace.data import Data, Split
from modelspace.errors import ModelspaceError
from modelspace.fit import plan as plan_module
from modelspace.runs import Status

CASE = named("MLP tanh")
EPOCH = SAMPLES // BATCH


def fit(population, **settings):
    defaults = {"optimizer": "sgd", "epochs": 4, "batch_size": BATCH, "lowering": "vmap", "compile": False}
    return plans.fit(population, CASE.data(), **{**defaults, **settings})


def test_the_given_population_stays_as_it_is():
    case = named("residual BatchNorm")
    population = case.space().sample(seeds=2, lr=[0.1])
    before = population.copy()
    run = plans.fit(population, case.data(), optimizer="sgd", epochs=1, batch_size=BATCH, lowering="vmap")
    assert torch.equal(population.points, before.points)
    assert all(torch.equal(v, before.buffers[n]) for n, v in population.buffers.items())
    assert not torch.equal(run.population.points, before.points)


def test_the_history_is_measured_on_the_plain_modules():
    population = CASE.space(torch.float64).sample(seeds=3, lr=[0.1])
    run = fit(population, epochs=3, metrics=["accuracy", "error"])
    data = CASE.data()
    assert set(run.history) == {"train_loss", "validation_loss", "validation_accuracy", "validation_error"}
    assert all(values.shape == (3, 3) for values in run.history.values())
    inputs, labels = data.validation.inputs.double(), data.validation.labels
    for k, module in enumerate(run.population.modules()):
        with torch.no_grad():
            outputs = module.eval()(inputs)
        loss = float(torch.nn.functional.cross_entropy(outputs, labels))
        accuracy = float((outputs.argmax(1) == labels).double().mean())
        assert np.isclose(run.history["validation_loss"][k, -1], loss, rtol=1e-10)
        assert np.isclose(run.history["validation_accuracy"][k, -1], accuracy)
        assert np.isclose(run.history["validation_error"][k, -1], 1 - accuracy)
    # A shorter run is the beginning of a longer one.
    shorter = fit(population, epochs=2, metrics=[])
    assert np.array_equal(shorter.history["validation_loss"], run.history["validation_loss"][:, :2])
    assert np.array_equal(shorter.history["train_loss"], run.history["train_loss"][:, :2])


def test_an_empty_validation_split_is_nan():
    data = CASE.data()
    empty = Split(data.validation.inputs[:0], data.validation.labels[:0])
    run = plans.fit(
        CASE.space().sample(seeds=2),
        Data("x", data.train, empty, empty),
        epochs=2,
        batch_size=5,
        lowering="loop",
    )
    assert np.isnan(run.history["validation_loss"]).all()
    assert np.isfinite(run.history["train_loss"]).all()


def test_a_batch_larger_than_the_data_is_all_of_it():
    run = fit(CASE.space().sample(seeds=2), batch_size=1000)
    assert run.steps.tolist() == [4, 4]


def test_an_empty_population_is_refused():
    with pytest.raises(ModelspaceError, match="the population has no members"):
        fit(CASE.space().sample(seeds=2)[[]])


def test_numbers_in_the_record_are_consistent():
    run = fit(CASE.space().sample(seeds=3, lr=[0.1]))
    assert run.steps.tolist() == [4 * EPOCH] * 3
    assert (run.status == Status.FINISHED).all()
    assert not run.interrupted
    assert np.isclose(run.member_steps_per_second, 12 * EPOCH / run.seconds)
    assert run.settings["optimizer"].startswith("SGD")


# Ctrl-C


def test_ctrl_c_leaves_a_complete_record_of_what_was_finished(monkeypatch):
    population = CASE.space(torch.float64).sample(seeds=6, lr=[0.1])
    whole = fit(population, shard=2)
    choose_plan = plan_module.choose_plan

    def interrupted_in_the_third_shard(*args, **kwargs):
        plan, step = choose_plan(*args, **kwargs)
        left = 2 * 4 * EPOCH + 3

        def interrupting(*arguments):
            nonlocal left
            if not left:
                raise KeyboardInterrupt
            left -= 1
            return step(*arguments)

        return plan, interrupting

    monkeypatch.setattr(plan_module, "choose_plan", interrupted_in_the_third_shard)
    run = fit(population, shard=2)
    assert run.interrupted
    assert run.status.tolist() == [Status.FINISHED] * 4 + [Status.UNFINISHED] * 2
    assert torch.equal(run.population.points[:4], whole.population.points[:4])
    assert torch.equal(run.population.points[4:], population.points[4:])
    assert run.steps.tolist() == [4 * EPOCH] * 4 + [0, 0]
    for name, values in run.history.items():
        assert np.array_equal(values[:4], whole.history[name][:4])
        assert np.isnan(values[4:]).all()
    assert "2 unfinished" in repr(run)


# Early stopping


def stopping_rule(curve, patience, min_delta, sign=1.0):
    """The epoch after which a member stops, and its best one, written down independently: by scanning."""
    best, best_epoch, waited = np.inf, None, 0
    for epoch, value in enumerate(sign * curve):
        if value < best - min_delta:
            best, best_epoch, waited = value, epoch, 0
        else:
            waited += 1
            if waited == patience:
                return epoch, best_epoch
    return len(curve) - 1, best_epoch


EPOCHS = 12


@pytest.fixture(scope="module")
def free():
    """Without a rule: the population, its run, and its points after each epoch."""
    population = CASE.space(torch.float64).sample(seeds=4, lr=[0.1, 1.0])
    points = [fit(population, epochs=e + 1, shard=8).population.points for e in range(EPOCHS)]
    return population, fit(population, epochs=EPOCHS), points


@pytest.mark.parametrize("monitor", ["validation_loss", "validation_accuracy"])
@pytest.mark.parametrize("restore", [False, True])
def test_early_stopping_is_each_member_s_own(free, monitor, restore):
    population, unruled, by_epoch = free
    rule = ms.EarlyStopping(patience=2, monitor=monitor, restore_best=restore, min_delta=1e-3)
    run = fit(population, epochs=EPOCHS, early_stopping=rule)
    curves, expected = run.history[monitor], unruled.history[monitor]
    lasts = []
    for k in range(8):
        last, best = stopping_rule(expected[k], 2, 1e-3, -1.0 if monitor == "validation_accuracy" else 1.0)
        lasts.append(last)
        assert run.steps[k] == (last + 1) * EPOCH
        assert np.allclose(curves[k, : last + 1], expected[k, : last + 1], rtol=1e-9)
        assert np.isnan(curves[k, last + 1 :]).all()
        if last < EPOCHS - 1:
            assert run.status[k] == Status.STOPPED
        point = by_epoch[best if restore else last][k]
        assert torch.allclose(run.population.points[k], point, rtol=1e-9, atol=1e-12)
    assert min(lasts) < EPOCHS - 1, "no member stopped: the test is empty"


@pytest.mark.parametrize(
    ("name", "higher", "steps"),
    [("accuracy", None, 2), ("accuracy", False, 5), ("other", None, 5), ("other", True, 2)],
)
def test_early_stopping_goes_by_what_an_objective_names(name, higher, steps):
    def falling(model, batch):
        loss = model(batch[0]).square().mean()
        return {"loss": loss, name: 2 * loss}

    population = CASE.space(torch.float64).sample(seeds=1, lr=[0.01])
    rule = ms.EarlyStopping(patience=1, monitor=f"validation_{name}", higher_is_better=higher)
    settings = {"optimizer": "sgd", "batch_size": 15, "objective": falling, "epochs": 5}
    assert ms.fit(population, CASE.data(), early_stopping=rule, **settings).steps.tolist() == [steps]
    with pytest.raises(ModelspaceError, match="unknown score to monitor 'validation_los': did you mean"):
        ms.fit(population, CASE.data(), early_stopping=ms.EarlyStopping(monitor="validation_los"), **settings)


def test_early_stopping_with_buffers_restores_them_too():
    case = named("residual BatchNorm")
    population = case.space(torch.float64).sample(seeds=3, lr=[0.5])
    settings = {"optimizer": "sgd", "batch_size": BATCH, "lowering": "vmap", "compile": False}
    rule = ms.EarlyStopping(patience=1, restore_best=True)
    run = plans.fit(population, case.data(), epochs=6, early_stopping=rule, **settings)
    for k in range(3):
        best = int(np.nanargmin(run.history["validation_loss"][k]))
        expected = plans.fit(population, case.data(), epochs=best + 1, **settings).population
        assert torch.allclose(run.population.points[k], expected.points[k], rtol=1e-9)
        for name, value in expected.buffers.items():
            assert torch.allclose(run.population.buffers[name][k], value[k], rtol=1e-9)


# Data order


def test_members_share_the_order_of_the_data_unless_they_have_their_own():
    population = CASE.space(torch.float64).sample(seeds=[7], lr=[0.1])
    twins = population[[0, 0, 0]]
    shared = fit(twins).population.points
    assert torch.allclose(shared[0], shared[1], rtol=1e-12)
    own = fit(twins.with_columns(data_seed=[0, 5, 5])).population.points
    assert torch.allclose(own[0], shared[0], rtol=1e-9)
    assert not torch.allclose(own[1], own[0], rtol=1e-3)
    assert torch.allclose(own[2], own[1], rtol=1e-9)
    assert torch.allclose(fit(twins, data_seed=5).population.points[0], own[1], rtol=1e-9)
