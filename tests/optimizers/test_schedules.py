from functools import partial

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from modelspace.errors import ModelspaceError
from modelspace.hyperparameters import hyper_columns, validate
from modelspace.optimizers import (
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    Hold,
    Lambda,
    MultiStep,
    OneCycle,
    Plateau,
    Polynomial,
    Product,
    Schedule,
    Step,
    Warmup,
    resolve_schedule,
)

STEPS, RATE, MEMBERS = 40, 0.3, 3


def constant(optimizer):
    return lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)


def cosine(optimizer, cosine_final, cosine_steps):
    return lr_scheduler.CosineAnnealingLR(optimizer, T_max=cosine_steps or STEPS, eta_min=cosine_final * RATE)


def step(optimizer, step_every, step_factor):
    return lr_scheduler.StepLR(optimizer, step_size=step_every, gamma=step_factor)


def one_cycle(
    optimizer, onecycle_pct_start, onecycle_div_factor, onecycle_final_div_factor, onecycle_steps=0
):
    return lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=RATE,
        total_steps=onecycle_steps or STEPS,
        pct_start=onecycle_pct_start,
        div_factor=onecycle_div_factor,
        final_div_factor=onecycle_final_div_factor,
        cycle_momentum=False,
    )


def warmup(optimizer, warmup_steps, warmup_start, warmup_end):
    return lr_scheduler.LinearLR(optimizer, warmup_start, warmup_end, total_iters=warmup_steps)


def multi_step(optimizer, multistep_factor):
    return lr_scheduler.MultiStepLR(optimizer, [3, 3, 17], multistep_factor)


def exponential(optimizer, exponential_factor):
    return lr_scheduler.ExponentialLR(optimizer, exponential_factor)


def polynomial(optimizer, polynomial_power, polynomial_steps):
    return lr_scheduler.PolynomialLR(optimizer, polynomial_steps or STEPS, polynomial_power)


def hold(optimizer, hold_steps, hold_factor):
    return lr_scheduler.ConstantLR(optimizer, hold_factor, hold_steps)


def restarts(optimizer, restarts_every, restarts_growth, restarts_final):
    return lr_scheduler.CosineAnnealingWarmRestarts(
        optimizer, restarts_every, restarts_growth, restarts_final * RATE
    )


def inverse(number):
    return 1 / (1 + number)


def by_function(optimizer):
    return lr_scheduler.LambdaLR(optimizer, inverse)


def warmup_step(optimizer, step_every, step_factor, **hyper):
    both = [warmup(optimizer, **hyper), step(optimizer, step_every, step_factor)]
    return lr_scheduler.ChainedScheduler(both, optimizer)


STEP = {"step_every": st.integers(1, 50), "step_factor": st.floats(0.1, 1.5)}
WARMUP = {
    "warmup_steps": st.integers(1, 50),
    "warmup_start": st.floats(0.01, 1.0),
    "warmup_end": st.just(1.0) | st.floats(0.01, 1.0),
}
ONE_CYCLE = {
    # At 1/40 the peak is the very first step, which torch divides by.
    "onecycle_pct_start": st.floats(0.03, 1.0) | st.just(0.0) | st.just(0.5),
    "onecycle_div_factor": st.floats(1.0, 100.0),
    "onecycle_final_div_factor": st.floats(1.0, 1e5),
    "onecycle_steps": st.sampled_from([0, 40, 57]),
}
CASES = [
    (Constant(), constant, {}),
    (Cosine(), cosine, {"cosine_final": st.floats(0.0, 1.0), "cosine_steps": st.sampled_from([0, 40, 99])}),
    (Step(every=7), step, STEP),
    (OneCycle(), one_cycle, ONE_CYCLE),
    (Warmup(steps=5), warmup, WARMUP),
    (Warmup(steps=5) * Step(every=7), warmup_step, WARMUP | STEP),
    (MultiStep((3, 3, 17)), multi_step, {"multistep_factor": st.floats(0.1, 1.5)}),
    (Exponential(0.9), exponential, {"exponential_factor": st.floats(0.5, 1.05)}),
    (
        Polynomial(2.0),
        polynomial,
        {"polynomial_power": st.floats(0.5, 3.0), "polynomial_steps": st.sampled_from([0, 40, 99, 20])},
    ),
    (Hold(steps=5), hold, {"hold_steps": st.integers(1, 50), "hold_factor": st.floats(0.1, 1.0)}),
    (
        CosineRestarts(every=7),
        restarts,
        {
            "restarts_every": st.integers(1, 15),
            "restarts_growth": st.integers(1, 3),
            "restarts_final": st.floats(0.0, 1.0),
        },
    ),
    (Lambda(inverse), by_function, {}),
]
every_schedule = pytest.mark.parametrize(
    ("schedule", "by_torch", "strategies"), CASES, ids=[by_torch.__name__ for _, by_torch, _ in CASES]
)


def factors_by_torch(by_torch, hyper):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=RATE)
    scheduler = by_torch(optimizer, **hyper)
    factors = []
    for number in range(STEPS):
        factors.append(optimizer.param_groups[0]["lr"] / RATE)
        optimizer.step()
        if number + 1 < STEPS:
            scheduler.step()
    return torch.tensor(factors, dtype=torch.float64)


def factors(schedule, columns):
    steps = torch.arange(STEPS, dtype=torch.float64)[:, None]
    return schedule.factor(steps, STEPS, columns)


@every_schedule
@settings(deadline=None, max_examples=15, derandomize=True, database=None)
@given(data=st.data())
def test_every_member_has_the_learning_rates_of_torch(schedule, by_torch, strategies, data):
    columns = {
        name: data.draw(st.lists(value, min_size=MEMBERS, max_size=MEMBERS))
        for name, value in strategies.items()
    }
    hyper = hyper_columns(schedule, columns, MEMBERS)
    received = factors(schedule, {name: values.T for name, values in hyper.items()})
    for member in range(MEMBERS):
        own = {name: values[member] for name, values in columns.items()}
        expected = factors_by_torch(by_torch, own)
        alone = factors(schedule, own)
        assert alone.shape == (STEPS, 1)
        assert torch.allclose(alone[:, 0], expected, rtol=1e-12, atol=1e-13)
        assert torch.allclose(received.expand(-1, MEMBERS)[:, member], expected, rtol=1e-12, atol=1e-13)


@every_schedule
def test_a_column_left_out_has_the_fields_value(schedule, by_torch, strategies):
    own = schedule.hyperparameters()
    assert own.keys() == strategies.keys()
    assert torch.allclose(
        factors(schedule, {})[:, 0], factors_by_torch(by_torch, own), rtol=1e-12, atol=1e-13
    )
    validate(schedule, {})


def test_a_product_multiplies_whatever_the_grouping():
    parts = [Warmup(steps=9), Cosine(final=0.1), Step(every=10)]
    expected = torch.stack([factors(part, {}) for part in parts]).prod(dim=0)
    left, right = (parts[0] * parts[1]) * parts[2], parts[0] * (parts[1] * parts[2])
    for product in (left, right):
        assert torch.allclose(factors(product, {}), expected, rtol=1e-14)


def test_a_product_of_one_kind_twice_is_refused():
    with pytest.raises(ModelspaceError, match="both sides have step_every, step_factor"):
        Step(every=3) * (Constant() * Step(every=5))


def test_edges_that_torch_refuses_are_finite():
    assert factors(Warmup(steps=0), {}).eq(1).all()
    peak_at_the_first_step = factors(OneCycle(pct_start=1 / STEPS), {})
    assert peak_at_the_first_step[0] == 1
    assert peak_at_the_first_step.isfinite().all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, Constant()),
        ("constant", Constant()),
        ("Cosine", Cosine()),
        ("one-cycle", OneCycle()),
        ("onecycle", OneCycle()),
        ("warmup", Warmup(steps=100)),
        ("step", Step(every=1000)),
        ("warmup * cosine", Product(Warmup(steps=100), Cosine())),
        ("warmup*cosine*step", Product(Product(Warmup(steps=100), Cosine()), Step(every=1000))),
        (Cosine(0.5), Cosine(0.5)),
        ("plateau", Plateau()),
        (lr_scheduler.ReduceLROnPlateau, Plateau()),
        (lr_scheduler.LinearLR, Warmup(steps=5)),
        (partial(lr_scheduler.StepLR, step_size=30), Step(every=30)),
        (partial(lr_scheduler.CosineAnnealingLR, T_max=30), Cosine(steps=30)),
        (partial(lr_scheduler.LambdaLR, lr_lambda=inverse), Lambda(inverse)),
        (
            partial(
                lr_scheduler.ReduceLROnPlateau, factor=0.5, patience=3, min_lr=1e-3, threshold_mode="abs"
            ),
            Plateau(0.5, 3, min_lr=1e-3, threshold_mode="abs"),
        ),
    ],
)
def test_resolve_schedule(name, expected):
    assert resolve_schedule(name) == expected
    assert isinstance(resolve_schedule(name), Schedule)


@every_schedule
def test_a_configured_scheduler_of_torch_is_read_as_what_it_does(schedule, by_torch, strategies):
    """Whether or not it was stepped already."""
    own = {
        **schedule.hyperparameters(),
        "onecycle_steps": STEPS,
        "cosine_steps": STEPS,
        "polynomial_steps": STEPS,
    }
    own = {name: own[name] for name in strategies}
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=RATE)
    scheduler = by_torch(optimizer, **own)
    expected = factors_by_torch(by_torch, own)
    for _ in range(2):
        received = factors(resolve_schedule(scheduler), {})
        assert torch.allclose(received[:, 0], expected, rtol=1e-12, atol=1e-13)
        optimizer.step()
        scheduler.step()


def test_a_plateau_is_that_of_torch_for_every_member():
    draws = torch.Generator().manual_seed(0)
    scores = torch.rand(60, 4, generator=draws, dtype=torch.float64) / torch.arange(1, 61)[:, None] ** 0.3
    scores[5, 1] = torch.nan
    own = {
        "plateau_factor": [0.5, 0.1, 0.3, 0.5],
        "plateau_patience": [0, 2, 5, 1],
        "plateau_threshold": [1e-4, 0.1, 0.0, 1e-2],
        "plateau_cooldown": [0, 3, 1, 0],
        "plateau_min_lr": [0.0, 1e-3, 0.2, 1e-6],
    }
    for mode in ("rel", "abs"):
        schedule = Plateau(threshold_mode=mode)
        columns = hyper_columns(schedule, own, 4)
        columns["lr"] = torch.full((4, 1), RATE, dtype=torch.float64)
        theirs = []
        for k in range(4):
            settings_ = {n.removeprefix("plateau_"): values[k] for n, values in own.items()}
            theirs.append(
                lr_scheduler.ReduceLROnPlateau(
                    torch.optim.SGD([torch.zeros(1)], lr=RATE), threshold_mode=mode, **settings_
                )
            )
        memory = schedule.memory(columns)
        for row in scores:
            memory = schedule.observed(memory, columns, {"validation_loss": row}, [])
            for k, scheduler in enumerate(theirs):
                scheduler.step(row[k])
            rates = RATE * factors(schedule, {n: v.T for n, v in memory.items()})[0]
            expected = [scheduler.optimizer.param_groups[0]["lr"] for scheduler in theirs]
            assert rates.tolist() == pytest.approx(expected, rel=1e-12)
        assert len({round(rate, 9) for rate in expected}) > 2
        turned = schedule.memory(columns)
        for row in scores:
            turned = schedule.observed(turned, columns, {"validation_loss": -row}, ["validation_loss"])
        if mode == "abs":
            assert torch.equal(turned["plateau_scale"], memory["plateau_scale"])


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ("cosin", "unknown schedule 'cosin': did you mean 'cosine'"),
        ("warmup*", "unknown schedule ''"),
        ("*cosine", "unknown schedule ''"),
        (Cosine, r"an object such as Cosine\(\), or one of torch\.optim\.lr_scheduler; received <class"),
        (lr_scheduler.StepLR, r"StepLR needs step_size: functools\.partial\(StepLR, step_size=…\)"),
        (lr_scheduler.CyclicLR, "CyclicLR has no form for many members here"),
        (partial(lr_scheduler.CosineAnnealingLR, T_max=3, eta_min=1.0), "eta_min is a learning rate"),
        (partial(lr_scheduler.OneCycleLR, max_lr=1.0, total_steps=9), "with cycle_momentum=False"),
        (partial(lr_scheduler.ReduceLROnPlateau, mode="max"), "does not say of what"),
        (3, "received 3"),
    ],
)
def test_resolve_schedule_refuses(given_, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would refuse before we do
    with pytest.raises(ModelspaceError, match=message):
        resolve_schedule(given_)


def test_a_schedules_columns_are_checked_like_an_optimizers():
    message = r"step_every must be a whole number of at least 1; received 2\.5 \(member 1\)$"
    with pytest.raises(ModelspaceError, match=message):
        validate(Warmup(steps=5) * Step(every=1), {"step_every": [3, 2.5]})
