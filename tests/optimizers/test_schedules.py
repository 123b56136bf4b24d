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
    OneCycle,
    Product,
    Schedule,
    Step,
    Warmup,
    resolve_schedule,
)

STEPS, RATE, MEMBERS = 40, 0.3, 3


def constant(optimizer):
    return lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)


def cosine(optimizer, cosine_final):
    return lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS, eta_min=cosine_final * RATE)


def step(optimizer, step_every, step_factor):
    return lr_scheduler.StepLR(optimizer, step_size=step_every, gamma=step_factor)


def one_cycle(optimizer, onecycle_pct_start, onecycle_div_factor, onecycle_final_div_factor):
    return lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=RATE,
        total_steps=STEPS,
        pct_start=onecycle_pct_start,
        div_factor=onecycle_div_factor,
        final_div_factor=onecycle_final_div_factor,
        cycle_momentum=False,
    )


def warmup(optimizer, warmup_steps, warmup_start):
    return lr_scheduler.LinearLR(optimizer, start_factor=warmup_start, total_iters=warmup_steps)


def warmup_step(optimizer, warmup_steps, warmup_start, step_every, step_factor):
    both = [warmup(optimizer, warmup_steps, warmup_start), step(optimizer, step_every, step_factor)]
    return lr_scheduler.ChainedScheduler(both, optimizer)


STEP = {"step_every": st.integers(1, 50), "step_factor": st.floats(0.1, 1.5)}
WARMUP = {"warmup_steps": st.integers(1, 50), "warmup_start": st.floats(0.01, 1.0)}
ONE_CYCLE = {
    # At 1/40 the peak is the very first step, which torch divides by.
    "onecycle_pct_start": st.floats(0.03, 1.0) | st.just(0.0) | st.just(0.5),
    "onecycle_div_factor": st.floats(1.0, 100.0),
    "onecycle_final_div_factor": st.floats(1.0, 1e5),
}
CASES = [
    (Constant(), constant, {}),
    (Cosine(), cosine, {"cosine_final": st.floats(0.0, 1.0)}),
    (Step(every=7), step, STEP),
    (OneCycle(), one_cycle, ONE_CYCLE),
    (Warmup(steps=5), warmup, WARMUP),
    (Warmup(steps=5) * Step(every=7), warmup_step, WARMUP | STEP),
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
    ],
)
def test_resolve_schedule(name, expected):
    assert resolve_schedule(name) == expected
    assert isinstance(resolve_schedule(name), Schedule)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ("cosin", "unknown schedule 'cosin': did you mean 'cosine'"),
        ("warmup*", "unknown schedule ''"),
        ("*cosine", "unknown schedule ''"),
        (Cosine, r"an object such as Cosine\(\); received <class"),
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
