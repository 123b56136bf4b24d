"""Groups of parameters against torch.optim's own param_groups."""

from fnmatch import fnmatchcase

import pytest
import torch
from support import plans
from support.cases import BATCH, named
from support.plain import built, relative_error
from support.sampled import sampled
from torch import nn

import modelspace as ms
from modelspace import losses
from modelspace import optimizers as o
from modelspace.optimizers import exactly
from modelspace.reference import train

EPOCHS, STEPS = 6, 24
RATES = [0.02, 0.05, 0.01]
CASE = named("MLP tanh")
SHAPE = tuple(CASE.data().train.inputs.shape[1:])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        linear = nn.Linear(torch.Size(SHAPE).numel(), 8)
        self.body = nn.Sequential(linear, nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 6), nn.Tanh())
        self.fc = nn.Linear(6, 10)

    def forward(self, x):
        return self.fc(self.body(x.flatten(1)))


def members(**columns):
    space = ms.ModelSpace(Net, input_shape=SHAPE, dtype=torch.float64)
    return space.sample(seeds=3).with_columns(**columns)


def fit(population, optimizer, **settings):
    plan = {"lowering": "vmap", "shard": len(population), "compile": False, "threads": 1, "workers": 1}
    settings = {"epochs": EPOCHS, "batch_size": BATCH, "metrics": [], **plan, **settings}
    return plans.fit(population, CASE.data(), loss="cross_entropy", optimizer=optimizer, **settings)


def plainly(population, kind, settings_of, *, clip_norm=None, scheduler=None):
    """A plain loop of ``kind`` with a param_group for each parameter; ``settings_of`` gives a name's and row's.

    A parameter's ``after`` are the updates that pass before it has a gradient.
    """
    ends, data = [], CASE.data()
    for k, row in enumerate(population.table.to_dict("records")):
        module, done = built(population, k), []

        def make(_, module=module, row=row, done=done):
            groups = []
            for name, parameter in module.named_parameters():
                own = dict(settings_of(name, row))
                parameter.register_post_accumulate_grad_hook(waiting(own.pop("after", 0), done))
                groups.append({"params": [parameter], **own})
            return exactly(kind(groups))

        train(
            module,
            data.train.inputs.double(),
            data.train.labels,
            losses.resolve("cross_entropy"),
            make,
            steps=STEPS,
            batch_size=BATCH,
            seed=row["seed"],
            clip_norm=clip_norm,
            make_scheduler=scheduler,
            after_step=lambda done=done: done.append(1),
        )
        ends.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    return torch.stack(ends)


def waiting(after, done):
    def hook(parameter):
        if len(done) < after:
            parameter.grad = None

    return hook


KINDS = ["SGD", "AdamW", "NAdam", "Adafactor", "Rprop", "ASGD", "RMSprop"]


@pytest.mark.parametrize("kind", sampled(KINDS, 2))
def test_a_group_has_its_own_hyperparameters(kind):
    population = members(lr=RATES, **{"lr.head": [0.1, 0.03, 0.05]})
    run = fit(population, getattr(o, kind)(), groups={"head": "fc.*"})
    expected = plainly(
        population,
        getattr(torch.optim, kind),
        lambda name, row: {"lr": row["lr.head"] if name.startswith("fc.") else row["lr"]},
    )
    assert relative_error(run.population.points, expected) <= 1e-9
    assert relative_error(fit(members(lr=RATES), getattr(o, kind)()).population.points, expected) > 1e-3


def test_no_decay_is_one_word():
    population = members(lr=RATES, weight_decay=[0.1, 0.5, 1.0])
    run = fit(population, "adamw", groups="no_decay")
    expected = plainly(
        population,
        torch.optim.AdamW,
        lambda name, row: {
            "lr": row["lr"],
            "weight_decay": 0.0 if "bias" in name or name == "body.1.weight" else row["weight_decay"],
        },
    )
    assert relative_error(run.population.points, expected) <= 1e-9


def test_of_two_groups_the_last_that_gives_a_value_holds_and_factors_multiply():
    given = {
        "lr_factor.body": [0.5, 0.1, 1.0],
        "weight_decay.body": [0.1, 0.2, 0.3],
        "lr.bias": [0.01, 0.02, 0.03],
    }
    population = members(lr=RATES, **given)
    groups = [{"body": "body.*"}, "no_decay", {"bias": {"params": "*.bias", "betas": (0.5, 0.9)}}]
    run = fit(population, "adamw", groups=groups)

    def settings_of(name, row):
        own = {"lr": row["lr"], "weight_decay": 0.01}
        if fnmatchcase(name, "body.*"):
            own |= {"weight_decay": row["weight_decay.body"]}
        if "bias" in name or name == "body.1.weight":
            own |= {"weight_decay": 0.0}
        if name.endswith(".bias"):
            own |= {"lr": row["lr.bias"], "betas": (0.5, 0.9)}
        factor = row["lr_factor.body"] if fnmatchcase(name, "body.*") else 1.0
        return {**own, "lr": own["lr"] * factor}

    assert relative_error(run.population.points, plainly(population, torch.optim.AdamW, settings_of)) <= 1e-9


def test_layers_decay_towards_the_input():
    population = members(lr=RATES, layer_decay=[1.0, 0.5, 0.8], **{"lr.fc": [0.1, 0.2, 0.3]})
    run = fit(population, "adam", groups="layers")
    layers = ["body.0", "body.1", "body.3", "fc"]

    def settings_of(name, row):
        layer = name.rpartition(".")[0]
        lr = row["lr.fc"] if layer == "fc" else row["lr"]
        return {"lr": lr * row["layer_decay"] ** (3 - layers.index(layer))}

    assert relative_error(run.population.points, plainly(population, torch.optim.Adam, settings_of)) <= 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_waits_for_its_first_update(kind):
    population = members(lr=RATES, **{"frozen_until.body": [0, 5, 100]})
    run = fit(population, getattr(o, kind)(), groups={"body": "body.*"}, clip_norm=0.5)

    def settings_of(name, row):
        return {"lr": row["lr"], "after": row["frozen_until.body"] if name.startswith("body.") else 0}

    expected = plainly(population, getattr(torch.optim, kind), settings_of, clip_norm=0.5)
    named = population.space.template.named_parameters()
    still = sum(p.numel() for name, p in named if name.startswith("body."))
    assert torch.equal(run.population.points[2, :still], population.points[2, :still])
    assert relative_error(run.population.points, expected) <= 1e-9


def test_groups_go_with_a_schedule():
    population = members(lr=RATES, **{"lr.head": [0.1, 0.03, 0.05]})
    run = fit(population, "sgd", groups={"head": "fc.*"}, schedule=o.Step(every=7, gamma=0.3))
    expected = plainly(
        population,
        torch.optim.SGD,
        lambda name, row: {"lr": row["lr.head"] if name.startswith("fc.") else row["lr"]},
        scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 7, 0.3),
    )
    assert relative_error(run.population.points, expected) <= 1e-9


AGREEING = ["adam", "muon", "lamb", "schedulefreeadamw", "ema(sgd)", "sam(sgd)"]


@pytest.mark.parametrize("optimizer", sampled(AGREEING, 2))
def test_groups_that_agree_change_nothing(optimizer):
    population = members(lr=RATES)
    alike = population.with_columns(**{"lr.head": RATES})
    expected = fit(population, optimizer).population.points
    assert relative_error(fit(alike, optimizer, groups={"head": "fc.*"}).population.points, expected) <= 1e-12


def test_groups_go_on_bit_for_bit_and_compiled(tmp_path, compilations):
    population = members(lr=RATES, **{"lr.head": [0.1, 0.03, 0.05], "frozen_until.body": [0, 5, 9]})
    settings = {"groups": {"head": "fc.*", "body": "body.*"}}
    straight = fit(population, "nadam", epochs=3, **settings)
    fit(population, "nadam", epochs=1, out=tmp_path, **settings)
    run = fit(population, "nadam", epochs=3, out=tmp_path, **settings)
    assert torch.equal(run.population.points, straight.population.points)
    assert run.settings["groups"] == ["head: fc.*", "body: body.*"]
    compiled = fit(population, "nadam", epochs=3, compile=True, **settings)
    assert len(compilations) == 1
    assert relative_error(compiled.population.points, straight.population.points) <= 1e-9


@pytest.mark.parametrize(
    ("columns", "groups", "message"),
    [
        ({}, {"head": "fd.*"}, r"group 'head' \(fd\.\*\) matches no parameter; the nearest are fc\.\w+"),
        ({}, "no_decai", "unknown word for groups 'no_decai': did you mean 'no_decay'"),
        (
            {},
            {"head": ""},
            r"group 'head' needs the names of its parameters, as 'fc\.\*\|\*\.bias'; received ''",
        ),
        ({}, ["no_decay", {"no_decay": "*.bias"}], "groups have names of their own"),
        ({"lr.haed": 0.1}, {"head": "fc.*"}, "'lr.haed': did you mean 'lr.head'"),
        (
            {"lr.head": 0.1},
            None,
            r"column lr\.head: lr of a group of parameters, and there is none: fit\(…, groups=",
        ),
        (
            {"lr.head": -0.1},
            {"head": "fc.*"},
            r"learning rate lr\.head must be a positive number; received -0\.1",
        ),
        ({"frozen_until.head": 1.5}, {"head": "fc.*"}, r"frozen_until\.head must be a whole number"),
    ],
)
def test_what_is_no_group_is_one_clear_line(columns, groups, message):
    given = {name: [value] * 3 for name, value in columns.items()}
    with pytest.raises(ms.ModelspaceError, match=message):
        fit(members(lr=RATES).with_columns(**given), "adam", groups=groups)


def test_a_configured_optimizer_of_torch_brings_its_groups():
    population = members(lr=RATES)
    named = list(population.space.template.named_parameters())
    head = [pair for pair in named if pair[0].startswith("fc.")]
    body = [pair for pair in named if not pair[0].startswith("fc.")]
    theirs = torch.optim.AdamW(
        [{"params": body}, {"params": head, "lr": 0.1, "weight_decay": 0.5}], lr=0.01, betas=(0.8, 0.99)
    )

    def settings_of(name, row):
        own = {"lr": 0.1, "weight_decay": 0.5} if name.startswith("fc.") else {"lr": row["lr"]}
        return {"betas": (0.8, 0.99), **own}

    run = fit(population, theirs)
    assert relative_error(run.population.points, plainly(population, torch.optim.AdamW, settings_of)) <= 1e-9


def test_lbfgs_has_no_groups():
    with pytest.raises(ms.ModelspaceError, match="LBFGS takes all parameters as one: it has no groups"):
        fit(members(lr=RATES), o.LBFGS(), groups={"head": "fc.*"})
