"""What an optimizer may ask of a fit beside one gradient: a second one, and another result than the last points."""

import pytest
import torch
from support import plans
from support.cases import BATCH, named
from support.plain import built, relative_error
from support.sampled import sampled
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import modelspace as ms
from modelspace import losses
from modelspace import optimizers as o
from modelspace.data import epoch_indices
from modelspace.reference import train

CASE = named("MLP tanh")
EPOCHS, STEPS = 5, 20


def fit(population, optimizer, **settings):
    plan = {"lowering": "vmap", "shard": len(population), "compile": False, "threads": 1, "workers": 1}
    settings = {"epochs": EPOCHS, "batch_size": BATCH, "metrics": [], **plan, **settings}
    return plans.fit(population, CASE.data(), loss=CASE.loss, optimizer=optimizer, **settings)


def members(**columns):
    return CASE.space(torch.float64).sample(seeds=3).with_columns(**columns)


def flat(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def averaged(population, average):
    """A plain loop with torch's own averaging: the average and the last point of each member."""
    ends, lasts = [], []
    for k, row in enumerate(population.table.to_dict("records")):
        module, data = built(population, k), CASE.data()
        averages, done = average(module, row), []

        def after_step(module=module, averages=averages, done=done, row=row):
            done.append(1)
            if (
                len(done) >= row.get("swa_start", 1)
                and (len(done) - row.get("swa_start", 1)) % row.get("every", 1) == 0
            ):
                averages.update_parameters(module)

        train(
            module,
            data.train.inputs.double(),
            data.train.labels,
            losses.resolve(CASE.loss),
            lambda p, row=row: torch.optim.SGD(p, row["lr"], momentum=0.9),
            steps=STEPS,
            batch_size=BATCH,
            seed=row["seed"],
            after_step=after_step,
        )
        ends.append(flat(averages.module if averages.n_averaged else module))
        lasts.append(flat(module))
    return torch.stack(ends), torch.stack(lasts)


AVERAGES = {
    "ema": (
        o.EMA(o.SGD(momentum=0.9)),
        {"lr": [0.1, 0.05, 0.02], "ema_decay": [0.0, 0.9, 0.99]},
        lambda module, row: AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(row["ema_decay"])),
    ),
    "swa": (
        o.SWA(o.SGD(momentum=0.9)),
        {"lr": [0.1, 0.05, 0.02], "swa_start": [1, 7, 50]},
        lambda module, row: AveragedModel(module),
    ),
}


@pytest.mark.parametrize("name", AVERAGES)
def test_an_average_is_torch_s_and_is_the_result(name):
    optimizer, columns, average = AVERAGES[name]
    population = members(**columns)
    run = fit(population, optimizer)
    expected, last = averaged(population, average)
    assert relative_error(expected[1:2], last[1:2]) > 1e-3, "the average is the last point: the test is empty"
    assert relative_error(run.population.points, expected) <= 1e-9
    table = ms.evaluate(run.population, CASE.data(), ["loss"], loss=CASE.loss, split="validation")
    assert run.history["validation_loss"][:, -1] == pytest.approx(table["loss"].to_numpy(), rel=1e-9)


def sharpness_aware(population, *, adaptive):
    """Foret's algorithm 1 by hand: two backward passes a step."""
    ends = []
    data, loss = CASE.data(), losses.resolve(CASE.loss)
    for k, row in enumerate(population.table.to_dict("records")):
        module = built(population, k)
        parameters = list(module.parameters())
        optimizer = torch.optim.SGD(parameters, row["lr"], momentum=0.9)
        for step in range(STEPS):
            epoch, place = divmod(step, STEPS // EPOCHS)
            index = epoch_indices(len(data.train), BATCH, 0, epoch)[place]
            inputs, labels = data.train.inputs[index].double(), data.train.labels[index]
            optimizer.zero_grad()
            loss(module(inputs), labels).backward()
            scale = [p.detach().abs() if adaptive else torch.ones_like(p) for p in parameters]
            norm = sum(((s * p.grad) ** 2).sum() for s, p in zip(scale, parameters, strict=True)).sqrt()
            moves = [row["sam_rho"] / norm * s * s * p.grad for s, p in zip(scale, parameters, strict=True)]
            with torch.no_grad():
                for p, move in zip(parameters, moves, strict=True):
                    p.add_(move)
            optimizer.zero_grad()
            loss(module(inputs), labels).backward()
            with torch.no_grad():
                for p, move in zip(parameters, moves, strict=True):
                    p.sub_(move)
            optimizer.step()
        ends.append(flat(module))
    return torch.stack(ends)


@pytest.mark.parametrize("lowering", ["vmap", "loop"])
@pytest.mark.parametrize("adaptive", [False, True])
def test_sam_takes_its_gradient_at_the_worst_point_nearby(adaptive, lowering):
    population = members(lr=[0.1, 0.05, 0.02], sam_rho=[0.05, 0.5, 1.0])
    run = fit(population, o.SAM(o.SGD(momentum=0.9), adaptive=adaptive), lowering=lowering)
    assert relative_error(run.population.points, sharpness_aware(population, adaptive=adaptive)) <= 1e-9


@pytest.mark.parametrize("restore", [False, True])
def test_early_stopping_restores_the_average_of_the_best_epoch(restore):
    population = members(lr=[2.0, 1.0, 0.5])
    rule = ms.EarlyStopping(patience=EPOCHS, restore_best=restore)
    run = fit(population, o.EMA(o.SGD(momentum=0.9), ema_decay=0.5), early_stopping=rule)
    table = ms.evaluate(run.population, CASE.data(), ["loss"], loss=CASE.loss, split="validation")
    history = run.history["validation_loss"]
    expected = history.min(1) if restore else history[:, -1]
    assert table["loss"].to_numpy() == pytest.approx(expected, rel=1e-9)


def test_each_member_s_learning_rate_falls_at_its_own_plateau(tmp_path):
    """Held against torch's scheduler, given the same scores, and gone on with after half of the epochs."""
    population = members(lr=[2.0, 0.5, 3.0], plateau_patience=[0, 1, 2], plateau_factor=[0.1, 0.5, 0.7])
    schedule, optimizer = o.Plateau(threshold=0.05), o.SGD(momentum=0.9)
    run = fit(population, optimizer, schedule=schedule, epochs=8)
    constant = fit(
        population.with_columns(plateau_factor=[0.999999] * 3), optimizer, schedule=schedule, epochs=8
    )
    assert relative_error(run.population.points, constant.population.points) > 1e-3, "no rate fell"
    ends, data, each = [], CASE.data(), STEPS // EPOCHS
    for k, row in enumerate(population.table.to_dict("records")):
        module, made = built(population, k), []

        def make(parameters, row=row, made=made):
            optimizer = torch.optim.SGD(parameters, row["lr"], momentum=0.9)
            settings = {
                "patience": int(row["plateau_patience"]),
                "factor": row["plateau_factor"],
                "threshold": 0.05,
            }
            made.append(torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **settings))
            return optimizer

        def after_step(k=k, made=made):
            made.append(1)
            if (len(made) - 1) % each == 0:
                made[0].step(run.history["validation_loss"][k, (len(made) - 1) // each - 1])

        train(
            module,
            data.train.inputs.double(),
            data.train.labels,
            losses.resolve(CASE.loss),
            make,
            steps=8 * each,
            batch_size=BATCH,
            seed=row["seed"],
            after_step=after_step,
        )
        ends.append(flat(module))
    assert relative_error(run.population.points, torch.stack(ends)) <= 1e-9
    fit(population, optimizer, schedule=schedule, epochs=4, out=tmp_path)
    again = fit(population, optimizer, schedule=schedule, epochs=8, out=tmp_path)
    assert torch.equal(again.population.points, run.population.points)


EVERY = [
    *("sgd", "adam", "adamw", "nadam", "radam", "adamax", "adagrad", "adadelta", "rmsprop", "rprop", "asgd"),
    *("adafactor", "muon", "lion", "lamb", "schedulefreesgd", "schedulefreeadamw", "sam(adam)", "ema(adam)"),
    *("swa(sgd)", o.LBFGS(history_size=3)),
]


@pytest.mark.parametrize("optimizer", sampled(EVERY, 3), ids=str)
def test_every_optimizer_goes_on_bit_for_bit(optimizer, tmp_path):
    population = members(lr=[0.01, 0.02, 0.03])
    fit(population, optimizer, epochs=1, out=tmp_path)
    run = fit(population, optimizer, epochs=3, out=tmp_path)
    assert torch.equal(run.population.points, fit(population, optimizer, epochs=3).population.points)
    assert not torch.equal(run.population.points, population.points)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", EVERY, ids=str)
def test_every_optimizer_compiles_into_the_step(optimizer, compilations):
    population = members(lr=[0.001, 0.002, 0.003])
    run, eager = (fit(population, optimizer, epochs=1, compile=compile) for compile in (True, False))
    assert run.plan.compiled
    assert len(compilations) == 1
    tolerance = 1e-2 if optimizer == "muon" else 1e-9  # its products are in bfloat16
    assert relative_error(run.population.points, eager.population.points) <= tolerance
