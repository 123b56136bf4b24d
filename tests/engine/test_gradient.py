import pytest
import torch
from support.cases import BATCHED, named

from modelspace import losses
from modelspace.engine import Batch, Function, goal_of, loop_gradient, vmap_gradient
from modelspace.nest import take
from modelspace.space import samples_as


def gradient(compute, case, own=False, members=3):
    space = case.space(torch.float64)
    population, data = space.sample(seeds=members), case.data()
    samples = samples_as(data.train.inputs, torch.float64), data.train.labels
    index = torch.arange(15).view(members, 5) if own else slice(5)
    batch = Batch(*take(samples, index), own=own)
    seeds = torch.tensor(population.table["seed"].to_numpy())
    loss = goal_of(population, data, case.loss, case.objective)
    given = population.points, population.buffers, batch, seeds, torch.tensor(3)
    terms = {name: torch.tensor(values, dtype=torch.float64) for name, values in case.columns.items()}
    found = compute(Function(space), loss, *given, None, terms)
    return population, batch, found


@pytest.mark.parametrize("own", [False, True], ids=["shared batch", "own batches"])
@pytest.mark.parametrize("case", BATCHED, ids=str)
def test_batched_is_the_loop(case, own):
    population, _, batched = gradient(vmap_gradient, case, own)
    _, _, looped = gradient(loop_gradient, case, own)
    assert torch.allclose(batched.losses, looped.losses, rtol=1e-12)
    assert batched.also.keys() == looped.also.keys() == set(case.named)
    for name, values in batched.also.items():
        assert torch.allclose(values, looped.also[name], rtol=1e-12)
    scale = looped.gradient.abs().amax(1, keepdim=True)
    assert ((batched.gradient - looped.gradient).abs() <= 1e-11 * scale).all()
    for name in population.buffers:
        assert torch.allclose(batched.buffers[name], looped.buffers[name], rtol=1e-12)


@pytest.mark.parametrize("compute", [vmap_gradient, loop_gradient])
def test_the_gradient_is_autograd_s(compute):
    case = named("MLP tanh")
    population, batch, found = gradient(compute, case)
    for k, module in enumerate(population.modules()):
        value = losses.resolve(case.loss)(module(batch.inputs), batch.labels)
        value.backward()
        expected = torch.cat([p.grad.reshape(-1) for p in module.parameters()])
        assert torch.allclose(found.gradient[k], expected, rtol=1e-11, atol=1e-14)
        assert torch.allclose(found.losses[k], value.detach())
    assert found.used is None


@pytest.mark.parametrize("compute", [vmap_gradient, loop_gradient])
def test_what_took_no_part_is_told(compute):
    population, _, found = gradient(compute, named("unused parameter"))
    ghost = torch.zeros(population.space.dimension, dtype=torch.bool)
    for block in population.space.layout:
        if block.name.startswith("ghost"):
            ghost[block.start : block.stop] = True
    assert (found.used == ~ghost).all()
    assert (found.gradient[:, ghost] == 0).all()


@pytest.mark.parametrize("compute", [vmap_gradient, loop_gradient])
def test_the_arguments_stay_as_they_are(compute):
    case = named("replaced buffer")
    fresh = case.space(torch.float64).sample(seeds=3)
    population, _, _ = gradient(compute, case)
    assert torch.equal(population.points, fresh.points)
    assert all(torch.equal(population.buffers[n], v) for n, v in fresh.buffers.items())
