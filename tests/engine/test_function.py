import pytest
import torch
from cases import Counting, DummyNet, FrozenBackbone, Tied
from torch import nn

from modelspace import ModelSpace
from modelspace.engine import Function


def called(space, module, inputs, **settings):
    reading = space.read(module)
    settings = {"training": False, "batched": False, **settings}
    return Function(space)(space.layout.views(reading.point), reading.buffers, inputs, **settings)


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (DummyNet, torch.randn(4, 3, 7, 7)),
        (FrozenBackbone, torch.randn(4, 2, 4, 4)),
        (Tied, torch.arange(8).view(2, 4) % 7),
    ],
)
def test_it_is_the_module_s_forward(make, inputs):
    space = ModelSpace(make)
    module = space.draw(0)
    outputs, _ = called(space, module, inputs)
    assert torch.equal(outputs, module.eval()(inputs))


def test_buffers_come_back_written_or_replaced_and_the_given_stay():
    space, module = ModelSpace(Counting), Counting()
    x = torch.randn(5, 6)
    reading = space.read(module)
    buffers = {name: value.clone() for name, value in reading.buffers.items()}
    views = space.layout.views(reading.point)
    _, after = Function(space)(views, buffers, x, training=True, batched=False)
    module.train()(x)
    assert after["count"] == module.count == 1
    assert torch.equal(after["mean"], module.mean)
    assert reading.buffers["count"] == 0
    _, after = Function(space)(views, after, x, training=False, batched=False)
    assert after["count"] == 1


def test_the_template_is_never_written_into():
    space = ModelSpace(Counting)
    before = space.template.mean.clone()
    called(space, Counting(), torch.randn(5, 6), training=True)
    assert torch.equal(space.template.mean, before)
    assert space.template.count == 0


def test_random_numbers_of_a_member_are_a_function_of_its_seed_and_step():
    class Noise(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.weight * torch.randn_like(x)

    space, module = ModelSpace(Noise), Noise()
    x = torch.zeros(6)

    def noise(seed, step):
        return called(space, module, x, training=True, seed=torch.tensor(seed), step=torch.tensor(step))[0]

    assert torch.equal(noise(1, 0), noise(1, 0))
    assert not torch.equal(noise(1, 0), noise(1, 1))
    assert not torch.equal(noise(1, 0), noise(2, 0))


def test_random_numbers_in_evaluation_are_the_same_for_all_members_at_any_time():
    class Sampling(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x):
            noise = torch.randn(3) + torch.empty(3).uniform_() + torch.poisson(torch.ones(3))
            return x * self.weight + noise + torch.poisson(self.weight.exp())

    space, x = ModelSpace(Sampling), torch.zeros(2, 3)
    state = torch.random.get_rng_state()
    alone = called(space, Sampling(), x)[0]
    assert torch.equal(called(space, Sampling(), x)[0], alone)
    function = Function(space)
    points = space.sample(seeds=4).points

    def one(parameters):
        return function(parameters, {}, x, training=False, batched=True)[0]

    assert torch.equal(torch.vmap(one)(space.layout.views(points)), alone.expand(4, 2, 3))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_hidden_loop_is_an_error_that_names_the_operation():
    class Rare(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return torch.ops.aten._pdist_forward(x * self.weight, 2.0)

    space = ModelSpace(Rare)
    function = Function(space)
    points = space.sample(seeds=2).points
    inputs = torch.randn(4, 3)

    def one(parameters):
        return function(parameters, {}, inputs, training=False, batched=True)[0]

    with pytest.raises(RuntimeError, match="aten::_pdist_forward"):
        torch.vmap(one)(space.layout.views(points))
    assert torch._C._functorch._is_vmap_fallback_enabled()
