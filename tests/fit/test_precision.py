"""Mixed precision and gradient accumulation against the plain loop with torch's autocast and scaler."""

import pytest
import torch
from support import plans
from support.cases import BATCH, CASES, named
from support.plain import relative_error, trained
from support.sampled import sampled

import modelspace as ms
from modelspace.engine import using_threads
from modelspace.errors import ModelspaceError
from modelspace.fit import precision
from modelspace.fit.precision import FIRST_SCALE, GROWTH_STEPS, products_of, rescaled, scaling
from modelspace.fit.task import _check_products
from modelspace.precision import precision_named
from modelspace.runs import Status

CPU = torch.device("cpu")
TOLERANCE = {"bf16-mixed": 2e-2, "16-mixed": 2e-3}
PRODUCTS = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
MIXED = [
    "MLP tanh",
    "DummyNet",
    "CNN",
    "residual BatchNorm",
    "attention",
    "fused attention",
    "LayerNorm GroupNorm",
]


def fit(population, case, **settings):
    settings = {"epochs": 2, "batch_size": BATCH, "compile": False, "metrics": [], "workers": 1, **settings}
    return plans.fit(population, case.data(), optimizer=ms.SGD(momentum=0.5), **case.goal, **settings)


def plainly(population, case, **settings):
    return trained(
        population,
        case.data(),
        "sgd",
        batch_size=BATCH,
        loss=case.loss,
        defaults={"momentum": 0.5},
        **settings,
    )


@pytest.mark.parametrize("kind", TOLERANCE)
@pytest.mark.parametrize("name", sampled(MIXED, 2))
def test_mixed_precision_is_torch_s(name, kind):
    case = named(name)
    population = case.space(torch.float32).sample(seeds=3).with_columns(lr=[0.01, 0.02, 0.05])
    run = fit(population, case, lowering="vmap", precision=kind)
    points, _, losses = plainly(population, case, steps=8, products=PRODUCTS[kind])
    exact = fit(population, case, lowering="vmap")
    moved = points - population.points
    # The error of what training changed; it is not zero, since 16 bits are really used.
    error = relative_error(run.population.points - population.points, moved)
    assert error <= 20 * TOLERANCE[kind]
    assert relative_error(run.population.points, points) <= TOLERANCE[kind]
    assert not torch.equal(run.population.points, exact.population.points)
    assert torch.allclose(
        torch.from_numpy(run.history["train_loss"]), losses.view(3, 2, 4).mean(2), rtol=TOLERANCE[kind]
    )


@pytest.mark.parametrize("kind", TOLERANCE)
def test_the_loop_in_mixed_precision_is_torch_s_bit_for_bit(kind):
    case = named("CNN")
    population = case.space(torch.float32).sample(seeds=2).with_columns(lr=[0.01, 0.05])
    run = fit(population, case, lowering="loop", precision=kind)
    with using_threads(run.plan.threads):  # which a library's product may be summed up by
        points, _, _ = plainly(population, case, steps=8, products=PRODUCTS[kind])
    assert torch.equal(run.population.points, points)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TOLERANCE)
def test_mixed_precision_compiles(kind, monkeypatch):
    # A fused program keeps some intermediate numbers in float32, so that it may not overflow where eager does, and
    # then makes a step that eager leaves out: with a first scale at which neither overflows, the steps are the same.
    monkeypatch.setattr(precision, "FIRST_SCALE", 2.0**8)
    case = named("CNN")
    population = case.space(torch.float32).sample(seeds=3).with_columns(lr=[0.01, 0.02, 0.05])
    eager = fit(population, case, lowering="vmap", precision=kind)
    run = fit(population, case, lowering="vmap", precision=kind, compile=True)
    assert run.steps.tolist() == eager.steps.tolist() == [8, 8, 8]
    assert relative_error(run.population.points, eager.population.points) <= TOLERANCE[kind]


def test_scales_halve_on_overflow_and_double_after_many_good_steps():
    state = scaling(2, torch.float16, CPU)
    torch_s = torch.amp.GradScaler("cpu")
    assert torch_s.get_scale() == FIRST_SCALE
    assert torch_s.get_growth_interval() == GROWTH_STEPS
    for _ in range(GROWTH_STEPS - 1):
        state = rescaled(state, torch.tensor([True, True]))
    assert state["scale"].tolist() == [FIRST_SCALE] * 2
    state = rescaled(state, torch.tensor([True, False]))
    assert state["scale"].tolist() == [2 * FIRST_SCALE, FIRST_SCALE / 2]
    assert state["good"].tolist() == [0, 0]
    assert scaling(2, torch.bfloat16, CPU) == {}


def test_an_overflow_leaves_one_member_s_update_out(monkeypatch):
    """A member whose first scale is too large goes on at a smaller one; the others are as without it."""
    monkeypatch.setattr(precision, "FIRST_SCALE", 2.0**40)
    case = named("MLP tanh")
    population = case.space(torch.float32).sample(seeds=3).with_columns(lr=[0.01, 0.02, 0.05])
    run = fit(population, case, lowering="vmap", precision="16-mixed", epochs=8)
    assert (run.status == Status.FINISHED).all()
    assert (run.steps < 32).all()
    assert (run.steps > 0).all()


def test_a_member_that_diverges_in_float16_is_counted():
    case = named("MLP tanh")
    population = case.space(torch.float32).sample(seeds=3).with_columns(lr=[0.01, 1e38, 0.05])
    run = fit(population, case, lowering="vmap", precision="16-mixed", epochs=8)
    assert run.status.tolist() == [Status.FINISHED, Status.DIVERGED, Status.FINISHED]
    assert run.population.points.isfinite().all()


def test_tf32_and_unknown_names_are_refused_with_a_reason():
    with pytest.raises(ModelspaceError, match="tf32 is a format of NVIDIA GPUs, and the members are on cpu"):
        products_of("tf32", CPU)
    with pytest.raises(ModelspaceError, match="bf16-mixed"):
        precision_named("bf16")


@pytest.mark.parametrize("lowering", ["vmap", "loop"])
@pytest.mark.parametrize("name", ["MLP tanh", "dropout", "residual BatchNorm", "unused parameter"])
def test_accumulated_gradients_are_the_plain_loop_s(name, lowering):
    case = named(name)
    population = (
        case.space(torch.float64).sample(seeds=3).with_columns(lr=[0.1, 0.02, 0.05], data_seed=[1, 1, 2])
    )
    run = fit(population, case, lowering=lowering, accumulate=2, epochs=5)
    points, buffers, losses = plainly(population, case, steps=10, accumulate=2)
    assert relative_error(run.population.points, points) <= 1e-9
    for key, value in buffers.items():
        assert relative_error(run.population.buffers[key], value) <= 1e-9
    assert torch.allclose(torch.from_numpy(run.history["train_loss"]), losses.view(3, 5, 2).mean(2))


def test_more_batches_a_step_than_an_epoch_has_are_refused():
    case = CASES[1]
    with pytest.raises(ModelspaceError, match="an epoch has 4 batches of 5, fewer than accumulate=5"):
        fit(case.space().sample(seeds=2, lr=[0.1]), case, accumulate=5)


def test_a_layer_without_half_precision_is_one_message():
    case = named("LSTM")
    population = case.space(torch.float32).sample(seeds=2, lr=[0.01])
    with pytest.raises(
        ms.ModelspaceError, match=r"can't be computed .* in float16 on cpu.*give precision 32 or bf16"
    ):
        ms.fit(population, case.data(), epochs=1, precision="16-mixed")


def test_trying_half_precision_draws_from_nobody_s_generator():
    class Noisy(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) + torch.randn(()) * 1e-3

    population = ms.ModelSpace(lambda: Noisy(6, 3), input_shape=(6,)).sample(seeds=2, lr=[0.01])
    before = torch.random.get_rng_state()
    few = torch.randn(2, 6, generator=torch.Generator()), torch.zeros(2, dtype=torch.int64)
    _check_products(population[[0]], few, ms.losses.resolve("cross_entropy"), torch.bfloat16)
    assert torch.equal(torch.random.get_rng_state(), before)
