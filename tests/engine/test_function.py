import subprocess
import sys

import pytest
import torch
from support.cases import Counting, DummyNet, FrozenBackbone, Tied
from torch import nn

from modelspace import ModelSpace
from modelspace.engine import Function
from modelspace.engine.function import keep_freed_memory


def called(space, module, inputs, **settings):
    reading = space.read(module)
    settings = {"training": False, **settings}
    return Function(space).single(reading.point, reading.buffers, inputs, **settings)


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
    _, after = Function(space).single(reading.point, buffers, x, training=True)
    module.train()(x)
    assert after["count"] == module.count == 1
    assert torch.equal(after["mean"], module.mean)
    assert reading.buffers["count"] == 0
    _, after = Function(space).single(reading.point, after, x, training=False)
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
        return function(parameters, {}, x, training=False)[0]

    assert torch.equal(torch.vmap(one)(space.layout.views(points)), alone.expand(4, 2, 3))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_operation_without_a_batched_form_is_computed_member_by_member_and_named():
    class Rare(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return torch.ops.aten._pdist_forward(x * self.weight, 2.0)

    space = ModelSpace(Rare)
    function = Function(space)
    points = space.sample(seeds=2).points * torch.tensor([[1.0], [2.0]])
    inputs = torch.randn(4, 3)

    def one(parameters):
        return function(parameters, {}, inputs, training=False)[0]

    stacked = torch.vmap(one)(space.layout.views(points))
    assert torch.allclose(stacked, torch.stack([torch.pdist(inputs), torch.pdist(2 * inputs)]))
    assert len(function.one_by_one) == 1
    assert "_pdist_forward" in function.one_by_one[0]


def test_drawing_that_begins_late_is_noticed():
    """The first calls draw nothing, so nobody looks at the operations; then one draws."""

    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return x * self.weight + (torch.rand(3) if self.calls > 2 else 0)

    space = ModelSpace(Late)
    single, x = Function(space).single, torch.ones(1, 3)
    buffers = {"calls": torch.zeros(())}
    settings = {"training": True, "seed": torch.tensor(5)}
    state = torch.random.get_rng_state()
    found = []
    for step in range(5):
        outputs, buffers = single(torch.ones(3), buffers, x, step=torch.tensor(step), **settings)
        buffers = {name: value.clone() for name, value in buffers.items()}
        found.append(outputs.detach())
    assert buffers["calls"] == 5
    assert torch.equal(torch.random.get_rng_state(), state)
    again, _ = single(torch.ones(3), {"calls": torch.tensor(3.0)}, x, step=torch.tensor(3), **settings)
    assert torch.equal(again, found[3])
    assert not torch.equal(found[3], found[4])


PROGRAM = """
import resource, torch
from modelspace.engine.function import keep_freed_memory
assert keep_freed_memory()

def blocks():
    return [torch.ones(2**20) for _ in range(6)]  # 4 MiB each

for _ in range(3):
    blocks()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    blocks()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults():
    out = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    return int(out.stdout)


@pytest.mark.skipif(not keep_freed_memory(), reason="this system's allocator has no such thresholds")
def test_no_page_faults_from_step_to_step():
    # Without, it is thousands in most processes, and none where the heap happens to lie well.
    assert page_faults() < 64
