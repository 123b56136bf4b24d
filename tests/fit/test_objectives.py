"""Objectives and nests through the rest of a fit: what is refused, and everything that goes with training."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import plans, works
from support.cases import BATCH, named
from support.plain import relative_error, trained
from support.runs import assert_same
from support.sampled import sampled

import modelspace as ms
from modelspace.data import load, of_splits, of_tasks, views_of
from modelspace.errors import ModelspaceError
from modelspace.losses import objective_of

G = torch.Generator().manual_seed(0)
LABELLED = of_splits(*(works.labelled(n, G) for n in (20, 6, 6)))
SPACE = ms.ModelSpace(lambda: works.mlp(6, 8, 3))
EAGER = {"batch_size": BATCH, "compile": False, "threads": 1, "workers": 1, "epochs": 2}


def fit(objective, population=None, data=LABELLED, **settings):
    population = SPACE.sample(seeds=2, lr=[0.05]) if population is None else population
    return plans.fit(population, data, objective=objective, **{**EAGER, "metrics": [], **settings})


def entropy(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


# What is refused


class Counting:
    """It weighs its loss by how often it was called."""

    def __init__(self):
        self.calls = 0

    def __call__(self, model, batch):
        self.calls += 1
        return entropy(model, batch) * (1 + 0.1 * self.calls)


class Averaging(Counting):
    """It takes off the mean of its own losses."""

    def __call__(self, model, batch):
        loss = entropy(model, batch)
        self.calls = 0.9 * self.calls + 0.1 * loss.detach()
        return loss * (1 + self.calls)


def counted_in_the_model(model, batch):
    model.calls = getattr(model, "calls", 0) + 1
    return entropy(model, batch) * model.calls


GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (lambda m, b: m(b[0]), r"returned a loss of shape \[5, 3\]: it must be a scalar, .*\(\.mean\(\)\)"),
        (lambda m, b: None, "returned a NoneType: it must return a scalar tensor, or a dict of scalars one"),
        (lambda m, b: entropy(m, b).item(), "returned a float: it must return a scalar tensor"),
        (lambda m, b: {"kl": entropy(m, b)}, "returned a dict of kl: one of them must be 'loss'"),
        (
            lambda m, b: {"loss": entropy(m, b), "z": m(b[0])},
            r"'z' is of shape \[5, 3\]: what is named beside 'loss' must be one real number",
        ),
        (lambda m, b: {"loss": entropy(m, b), "note": "fine"}, "'note' is str: what is named"),
        (lambda m, b: m(b[0]).argmax(), r"returned a loss of torch.int64: it must be a real number"),
        (lambda m, b: F.cross_entropy(m(b[0]).detach(), b[1]), "has no gradient with respect to the model's"),
        (lambda m: m, r"failed on a batch of inputs 6 float32, labels scalar int64: TypeError"),
        (Counting(), "objective 'Counting' depends on something that it keeps itself, .*register it as a buffer"),
        (Averaging(), "objective 'Averaging' depends on something that it keeps itself"),
        (counted_in_the_model, "depends on what it keeps in calls, neither parameter nor buffer"),
        (lambda m, b: entropy(m, b) * GENERATOR.random(), "objective '<lambda>' depends on something that it"),
        (torch.nn.CrossEntropyLoss(), r"objective is CrossEntropyLoss\(\): give a function of \(model, batch\)"),
        ("modle", "objective is 'modle': give a function"),
        ("model", "objective 'model' failed on a batch of inputs 6 float32, labels scalar int64"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else getattr(value, "__name__", "object"),
)  # fmt: skip
def test_what_is_refused(objective, message):
    with pytest.raises(ModelspaceError, match=message) as raised:
        fit(objective)
    assert "\n" not in str(raised.value)


def test_a_loss_beside_an_objective_and_no_labels_without_one():
    with pytest.raises(ModelspaceError, match="both a loss and an objective are given"):
        fit(entropy, loss="mse")
    unlabelled = of_splits(*(works.vectors(n, G) for n in (20, 6, 6)))
    for loss in (None, "mse"):
        with pytest.raises(
            ModelspaceError, match="has no labels, which a loss is taken of: give an objective="
        ):
            fit(None, data=unlabelled, loss=loss)
    with pytest.raises(ModelspaceError, match="failed on a batch of 6 float32"):
        fit(entropy, data=unlabelled)


def test_ragged_nests():
    long, short = torch.zeros(5, 3), torch.zeros(4, 3)
    for nest, message in {
        (long, short, torch.zeros(5)): r"inputs '0' \[5, 3\], inputs '1' \[4, 3\], labels \[5\]",
        (long, short): r"has 5 inputs \[5, 3\] but 4 labels \[4, 3\]",
    }.items():
        with pytest.raises(ModelspaceError, match=message):
            load(nest)
    with pytest.raises(
        ModelspaceError, match=r"inputs 'a.0' \[5, 3\], inputs 'a.1' \[4, 3\], inputs 'b' \[5\]"
    ):
        load({"a": [long, short], "b": torch.zeros(5)})
    items = [({"a": torch.zeros(3)}, 0), ({"a": torch.zeros(4)}, 1)]
    with pytest.raises(
        ModelspaceError, match=r"the input 'a' of item 1 is \[4\].* item 0 \[3\].*make them alike"
    ):
        load(torch.utils.data.Subset(items, range(2)))


@pytest.mark.parametrize(
    ("draw", "name"), [(random.random, "random"), (np.random.rand, "numpy.random")], ids=["random", "numpy"]
)
def test_a_global_random_stream_is_said_and_each_member_s_own(draw, name):
    def drawn(model, batch):
        return F.cross_entropy(model(batch[0]) * (0.5 + draw()), batch[1])

    population = SPACE.sample(seeds=2, lr=[0.05])
    with pytest.warns(UserWarning, match=f"objective 'drawn' draws from {name}, which members would share"):
        run = fit(drawn, population)
    assert run.plan.lowering == "loop"
    alone = fit(drawn, population[[1]])
    assert torch.equal(alone.population.points[0], run.population.points[1])
    tables = [ms.evaluate(run.population, LABELLED, objective=drawn)["loss"] for _ in range(2)]
    assert tables[0].equals(tables[1])


def test_what_prints_a_value_is_computed_one_by_one_and_said(capsys):
    def printing(model, batch):
        loss = entropy(model, batch)
        print(loss.detach().item())
        return loss

    with pytest.warns(UserWarning, match=r"no batched form: .*\.item\(\)"):
        run = fit(printing)
    assert run.plan.lowering == "loop"
    assert torch.equal(run.population.points, fit(entropy, lowering="loop").population.points)


def test_names_of_an_objective_s_numbers_may_be_an_optimizer_s():
    def objective(model, batch, momentum=0.5, eps=0.1, bias1=1.0):
        return entropy(model, batch) * bias1 + eps * momentum

    population = SPACE.sample(seeds=2, lr=[0.05], bias1=[0.5], eps=[1e-8])
    run = fit(objective, population, optimizer="adam", lowering="vmap")
    plain = SPACE.sample(seeds=2, lr=[0.05])
    halved = fit(lambda m, b: 0.5 * entropy(m, b), plain, optimizer="adam", lowering="vmap")
    assert torch.equal(run.population.points, halved.population.points)


# What goes with training

VAE = named("VAE")


def vae(**settings):
    population = VAE.space().sample(seeds=3, lr=[0.02], beta=[0.5, 2.0])
    return fit(VAE.objective, population, VAE.data(), **settings)


def test_early_stopping_on_a_named_value():
    rule = ms.EarlyStopping(1, monitor="validation_kl", restore_best=True)
    run = vae(early_stopping=rule, epochs=8, lowering="vmap")
    curves = run.history["validation_kl"]
    assert "stopped early" in run.status
    again = ms.evaluate(run.population, VAE.data(), objective=VAE.objective, split="validation")
    assert np.allclose(again["kl"], np.nanmin(curves, 1), rtol=1e-5)
    assert np.allclose(again["loss"], again["rec"] + again["beta"] * again["kl"], rtol=1e-5)
    with pytest.raises(ModelspaceError, match="unknown score to monitor 'validation_kll': did you mean"):
        vae(early_stopping=ms.EarlyStopping(1, monitor="validation_kll"))


def test_a_run_goes_on_from_its_folder_with_its_named_values(tmp_path):
    whole = vae(epochs=4, lowering="vmap", out=tmp_path / "whole")
    vae(epochs=2, lowering="vmap", out=tmp_path / "run")
    assert_same(vae(epochs=4, lowering="vmap", out=tmp_path / "run"), whole)
    opened = ms.open_run(tmp_path / "run", VAE.space())
    assert np.array_equal(opened.history["train_kl"], whole.history["train_kl"])
    assert_same(opened, whole)


@pytest.mark.parametrize("case", [VAE, named("padding mask"), named("temporal difference")], ids=str)
def test_accumulated_batches_are_the_plain_loop_s(case):
    population = case.space(torch.float64).sample(seeds=3, lr=[0.05]).with_columns(**case.columns)
    data = case.data()
    settings = {**EAGER, **case.goal, "optimizer": "sgd", "metrics": [], "epochs": 3, "lowering": "vmap"}
    run = plans.fit(population, data, accumulate=2, **settings)
    points, _, losses = trained(population, data, "sgd", steps=6, batch_size=BATCH, accumulate=2, **case.goal)
    assert relative_error(run.population.points, points) <= 1e-9
    assert np.allclose(run.history["train_loss"], losses.view(3, 3, 2).mean(2), rtol=1e-8)


@pytest.mark.parametrize(
    "name", ["VAE", "padding mask", "PINN by torch.func", "PINN by autograd", "two heads"]
)
def test_mixed_precision_stays_near(name):
    case = named(name)
    population = case.space().sample(seeds=2, lr=[0.02])
    runs = [
        plans.fit(population, case.data(), precision=precision, lowering=lowering, **EAGER, **case.goal, metrics=[])
        for precision, lowering in (("32", "vmap"), ("bf16-mixed", "vmap"), ("bf16-mixed", "loop"))
    ]  # fmt: skip
    exact, mixed, looped = (run.history["train_loss"][:, -1] for run in runs)
    assert not np.array_equal(exact, mixed)
    assert np.allclose(mixed, exact, rtol=0.1)
    assert np.allclose(mixed, looped, rtol=0.05)


def test_metrics_beside_an_objective():
    population = SPACE.sample(seeds=2, lr=[0.05])
    run = fit(entropy, population, metrics=["accuracy"], lowering="vmap")
    plain = fit(None, population, loss="cross_entropy", metrics=["accuracy"], lowering="vmap")
    assert torch.equal(run.population.points, plain.population.points)
    for name, values in plain.history.items():
        assert np.allclose(run.history[name], values, rtol=1e-6)
    table = ms.evaluate(run.population, LABELLED, ["loss", "accuracy"], objective=entropy)
    assert table.columns.tolist()[-2:] == ["loss", "accuracy"]


@pytest.mark.parametrize(
    "columns", [{"fold": [0, 1, 2]}, {"bootstrap": [0, 7]}, {"samples": [11, 20]}], ids=str
)
@pytest.mark.parametrize(
    "name", sampled(["VAE", "padding mask", "temporal difference", "two heads", "PINN by autograd"], 2)
)
def test_each_member_s_own_samples_of_a_nest(name, columns):
    case = named(name)
    data, own = case.data(), {column: values[:1] for column, values in case.columns.items()}
    population = case.space(torch.float64).sample(seeds=1, lr=[0.05], **own, **columns)
    settings = {**EAGER, **case.goal, "optimizer": "sgd", "metrics": [], "epochs": 3}
    run = plans.fit(population, data, lowering="vmap", **settings)
    views = views_of(data, population.table, None, 0)
    for k in range(len(population)):
        seen = replace(data, train=views.pool.take(views.train(k)))
        alone = population[[k]].without_columns(*columns)
        steps = 3 * (len(seen.train) // BATCH)
        points, buffers, _ = trained(alone, seen, "sgd", steps=steps, batch_size=BATCH, **case.goal)
        assert relative_error(run.population.points[[k]], points) <= 1e-9
        for buffer, values in buffers.items():
            assert relative_error(run.population.buffers[buffer][[k]], values) <= 1e-9
        assert run.table["steps"][k] == steps


def test_tasks_of_nests_of_unequal_length():
    case = named("padding mask")
    tasks = of_tasks([works.sentences(n, G) for n in (7, 18, 11)], splits=(0.8, 0.2, 0.0))
    population = case.space(torch.float64).sample(seeds=1, lr=[0.05], task=[0, 1, 2])
    run = plans.fit(population, tasks, lowering="vmap", **{**EAGER, "optimizer": "sgd", "metrics": []})
    for k in range(3):
        rows = torch.from_numpy(tasks.tasks["train"] == k)
        seen = replace(tasks, train=tasks.train.take(rows))
        alone, steps = population[[k]].without_columns("task"), 2 * (int(rows.sum()) // BATCH)
        points, _, _ = trained(alone, seen, "sgd", steps=steps, batch_size=BATCH, loss=case.loss)
        assert relative_error(run.population.points[[k]], points) <= 1e-9


def test_what_tells_two_objectives_apart():
    weight, table, word = torch.ones(3), {"a": 1}, 2.0

    def objective(model, batch, gamma=1.0):
        return (entropy(model, batch) * weight).sum() * word

    first, second = objective_of(objective), objective_of(objective)
    assert first == second
    assert hash(first) == hash(second)
    others = [first.at({"gamma": 2.0}), replace(first, form="inputs"), replace(first, named=("kl",)), table]
    assert all(first != other for other in others)
    before = first._known
    weight.mul_(2)
    written = first._known
    word = 3.0
    assert len({before, written, first._known}) == 3
