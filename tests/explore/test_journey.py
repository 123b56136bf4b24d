import numpy as np
import pytest
import torch
from support import plans
from support.cases import named
from support.sampled import sampled

import modelspace as ms
from modelspace.data import Data, Split
from modelspace.errors import ModelspaceError
from modelspace.explore import journey

CASE = named("MLP tanh")
SETTINGS = {"optimizer": "sgd", "epochs": 3, "batch_size": 5, "plan": "vmap"}


def explore(columns=None, *, data=None, **settings):
    settings = {"seeds": 4, "fresh_seeds": 6, **SETTINGS, **settings}
    columns = {"lr": [1e-4, 0.3, 1e300]} if columns is None else columns
    settings = {"ground": False, **settings}
    return ms.explore(CASE.space(), data or separable(), columns=columns, **settings)


def separable():
    """Data on which the learning rate matters."""
    generator = torch.Generator().manual_seed(0)

    def split(samples):
        labels = torch.randint(3, (samples,), generator=generator)
        inputs = torch.randn(samples, 6, generator=generator)
        inputs[torch.arange(samples), labels] += 2
        return Split(inputs, labels)

    return Data("separable", split(60), split(60), split(60))


@pytest.fixture(scope="module")
def found():
    return explore()


def test_the_choice_is_the_best_median_on_validation(found):
    table = found.sweep.table
    accuracy = table["validation_accuracy"].where(table["status"] != "diverged", -np.inf)
    medians = accuracy.groupby(table["lr"]).apply(lambda v: np.quantile(v, 0.5, method="nearest"))
    assert found.chosen == {"lr": medians.idxmax()} == {"lr": 0.3}
    assert found.response["lr"].tolist() == [1e-4, 0.3, 1e300]
    assert np.array_equal(found.response["median"], medians.to_numpy())


def test_the_choice_never_sees_the_test_split(found):
    data = separable()
    inverted = Data("x", data.train, data.validation, Split(-data.test.inputs, data.test.labels.flip(0)))
    assert explore(data=inverted).chosen == found.chosen


def test_a_diverged_setting_is_counted_and_not_chosen(found):
    row = found.response.iloc[2]
    assert (row["diverged"], row["seeds"]) == (4, 4)
    assert row["median"] == -np.inf


def test_fresh_seeds_are_fresh(found):
    swept, fresh = set(found.sweep.population.table["seed"]), set(found.fresh.population.table["seed"])
    assert len(fresh) == 6
    assert not swept & fresh
    assert (found.fresh.population.table["lr"] == found.chosen["lr"]).all()
    gaps = explore(seeds=[0, 3, 50]).fresh.population.table["seed"].tolist()
    assert gaps == [4, 5, 6, 7, 8, 9]


def test_the_distribution_is_that_of_plain_modules(found):
    data = separable().test
    scores = []
    for module in found.fresh.population.modules():
        with torch.no_grad():
            scores.append(float((module.eval()(data.inputs).argmax(1) == data.labels).double().mean()))
    assert np.allclose(found.test["accuracy"], scores)
    d = found.distribution
    assert (d.n, d.diverged, d.mean, d.q3) == (6, 0, np.mean(scores), np.quantile(scores, 0.75))


def test_two_fresh_members_are_compared(found):
    a, b = found.pair
    modules = found.fresh.population.module(a), found.fresh.population.module(b)
    expected = ms.compare(*modules, inputs=separable().test.inputs, labels=separable().test.labels)
    assert found.comparison.distance == expected.distance
    assert found.comparison.path_losses == expected.path_losses
    assert found.comparison.names == (
        f"seed {found.test['seed'][a]}",
        f"seed {found.test['seed'][b]}",
    )


def test_several_columns_are_chosen_together():
    found = explore({"lr": [1e-4, 0.3], "momentum": [0.0, 0.5]})
    assert set(found.chosen) == {"lr", "momentum"}
    assert len(found.response) == 4
    assert (found.response["seeds"] == 4).all()


def test_no_column_is_one_setting():
    found = explore({})
    assert found.chosen == {}
    assert len(found.response) == 1


def test_regression_is_chosen_by_the_loss():
    case = named("MLP regression")
    found = ms.explore(
        case.space(), case.data(), seeds=2, fresh_seeds=2, columns={"lr": [1e-4, 0.1]}, loss="mse", **SETTINGS
    )
    assert found.metric == "loss"
    table = found.sweep.table
    medians = (
        table["validation_loss"].groupby(table["lr"]).apply(lambda v: np.quantile(v, 0.5, method="nearest"))
    )
    assert found.chosen == {"lr": medians.idxmin()}


def test_an_objective_is_chosen_by_its_own_value():
    def squared(model, batch, weight=1.0):
        return weight * (model(batch[0]) - 1).square().mean()

    columns = {"lr": [1e-4, 0.1]}
    found = ms.explore(
        CASE.space(), CASE.data(), seeds=2, fresh_seeds=2, columns=columns, objective=squared, epochs=2
    )
    assert (found.metric, found.chosen) == ("loss", {"lr": 0.1})
    assert found.comparison is not None
    assert found.comparison.loss == "squared"
    module, test = found.fresh.population.module(0), CASE.data().test
    assert found.test["loss"].iloc[0] == pytest.approx(
        float(squared(module, (test.inputs,)).detach()), rel=1e-5
    )


def test_all_diverged_is_said():
    with pytest.raises(ModelspaceError, match="all 4 members diverged: try smaller learning rates"):
        explore({"lr": [1e300]})


def test_what_exploring_needs_is_said():
    with pytest.raises(ModelspaceError, match="at least 2 fresh seeds; received 1"):
        explore(fresh_seeds=1)
    data = separable()
    empty = Split(data.test.inputs[:0], data.test.labels[:0])
    with pytest.raises(ModelspaceError, match="needs a test split, but that of separable is empty"):
        explore(data=Data("separable", data.train, data.validation, empty))
    with pytest.raises(ModelspaceError, match="needs a validation split"):
        explore(data=Data("separable", data.train, empty, data.test))


def test_ctrl_c_before_anything_was_finished_is_ctrl_c(monkeypatch):
    fit = journey.fit

    def interrupted(population, data, **settings):
        def stop(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(plans.FIT, "train", stop)
        return fit(population, data, **settings)

    monkeypatch.setattr(journey, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        explore()


@pytest.mark.parametrize(
    "name", sampled(["VAE", "padding mask", "two heads", "triplets", "training step"], 2)
)
def test_objectives_and_nests(name):
    case = named(name)
    columns = {"lr": [1e-3, 0.05], **{column: values[-1:] for column, values in case.columns.items()}}
    goal = {} if name == "training step" else case.goal
    found = ms.explore(case.space(), case.data(), seeds=2, fresh_seeds=2, columns=columns, **goal, **SETTINGS)
    assert found.metric == ("accuracy" if name == "padding mask" else "loss")
    own = {"loss": case.loss} if case.objective is None else {"objective": case.objective}
    expected = ms.evaluate(found.fresh.population, case.data(), **own)
    assert np.allclose(found.test[found.metric], expected[found.metric])
    assert np.allclose(found.comparison.path_losses[0], expected["loss"][found.pair[0]], rtol=1e-4)
    assert (found.comparison.output_distance is None) == (name == "triplets")
    assert "Exploration of" in repr(found)


def test_an_objective_s_parameters_are_no_choice():
    case = named("VAE")
    with pytest.raises(
        ModelspaceError, match="beta is a parameter of objective 'evidence_bound', among whose"
    ):
        ms.explore(case.space(), case.data(), columns=case.columns, objective=case.objective)


def test_the_ground_is_that_of_the_first_fresh_seeds_that_finished():
    found = explore({"lr": [0.05]}, ground=True, seeds=2, fresh_seeds=4, epochs=2)
    three = ms.landscape(found.fresh.population[:3], found.data, plane="seeds", grid=15)
    assert np.array_equal(found.ground.mean(), three.mean())
    assert found.ground.barriers.n == 3
    whole = ms.curvature(found.fresh.population, found.data, top=1, probes=4, samples=256)
    assert np.allclose(found.bends.top, whole.top, rtol=1e-3)
    assert len(found.bends.table) == 4
    few = explore({"lr": [0.05]}, ground=True, seeds=2, fresh_seeds=2, epochs=1)
    assert (few.ground, few.bends) == (None, None)
