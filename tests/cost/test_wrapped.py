"""Modules that are wrapped: scripted, traced, compiled, in parallel."""

import pytest
import torch
from torch import nn

import modelspace as ms
from modelspace.errors import ModelspaceError


def body():
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU())


def compiled_in_place(module):
    module.compile(backend="eager")
    return module


WRAPS = {
    "script": torch.jit.script,
    "trace": lambda module: torch.jit.trace(module, torch.zeros(1, 5)),
    "compile": lambda module: torch.compile(module, backend="eager"),
    "fullgraph": lambda module: torch.compile(module, backend="eager", fullgraph=True),
    "compiled in place": compiled_in_place,
    "DataParallel": nn.DataParallel,
}


class Mixed(nn.Module):
    def __init__(self, wrap="script"):
        super().__init__()
        self.b, self.h = WRAPS[wrap](body()), nn.Linear(8, 3)

    def forward(self, x):
        return self.h(self.b(x))


pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:.*weights_only")


@pytest.mark.parametrize("wrap", WRAPS)
def test_wrapped_layers_count_as_what_they_wrap(wrap):
    for found in (ms.inspect(Mixed, (5,), wrap=wrap, optimizer="adam"), ms.inspect(Mixed(wrap), (5,))):
        cost = found.anatomy
        assert (cost.forward_flops, cost.backward_flops, cost.device) == (128, 80 + 2 * 48, "fake")
        assert (found.dimension, sum(layer.parameters for layer in cost.layers)) == (75, 75)


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_wrapped_module_stays_as_it_was(wrap):
    module, x = Mixed(wrap), torch.randn(2, 5)
    before = module(x)
    ms.inspect(module, (5,))
    assert torch.equal(module(x), before)
    assert all(p.grad is None for p in module.parameters())


def test_a_script_called_again_is_counted_again():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.b = torch.jit.script(nn.Linear(5, 5))

        def forward(self, x):
            for _ in range(4):
                x = self.b(x)
            return x

    found = ms.inspect(Twice, (5,)).anatomy
    assert (found.forward_flops, found.backward_flops) == (4 * 50, 50 + 3 * 100)


def test_a_frozen_script_is_counted_without_a_backward():
    frozen = torch.jit.freeze(torch.jit.script(body().eval()))
    found = ms.inspect(nn.Sequential(frozen, nn.Linear(8, 3)), (5,)).anatomy
    assert (found.forward_flops, found.backward_flops) == (128, 48)


def test_a_script_that_reads_values_is_computed():
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.h = nn.Linear(5, 5)

        def forward(self, x):
            return self.h(x) if bool(x.sum() > 0) else x

    found = ms.inspect(torch.jit.script(Reads()), (5,)).anatomy
    assert (found.forward_flops, found.device) == (50, "cpu")


def test_a_failure_within_a_script_names_the_layer_and_what_to_give():
    with pytest.raises(
        ModelspaceError, match=r"\(layer b\): its TorchScript failed; the module before torch.jit"
    ):
        ms.inspect(Mixed, (4,))


def test_a_layer_of_a_group_of_processes_is_refused_by_name():
    class Distributed(nn.parallel.DistributedDataParallel):
        def __init__(self, module):
            nn.Module.__init__(self)
            self.module = module

    with pytest.raises(
        ModelspaceError, match=r"layer 0 \(DistributedDataParallel\).*give the module that it wraps"
    ):
        ms.inspect(nn.Sequential(Distributed(body())), (5,))


class Closes(nn.Module):
    """Its layers are reached by a closure, which a copy doesn't carry."""

    def __init__(self):
        super().__init__()
        self.h, self.w = nn.Linear(5, 4, bias=False), nn.Parameter(torch.randn(4, 3))
        self.run = lambda x: self.h(x) @ self.w

    def forward(self, x):
        return self.run(x)


def forward_compiled(module):
    module.forward = torch.compile(module.forward, backend="eager")
    return module


REACHING = {
    "closure": (Closes, Closes, (40 + 24, 40 + 2 * 24), 32),
    "compiled forward": (
        lambda: forward_compiled(Mixed("compile")),
        lambda: forward_compiled(Mixed("script")),
        (128, 80 + 2 * 48),
        75,
    ),
}


@pytest.mark.parametrize("name", REACHING)
def test_a_forward_that_reaches_the_module_it_was_copied_from(name):
    first, second, flops, dimension = REACHING[name]
    for make in (first, second):
        module = make()
        held = dict(module.named_parameters())
        for source in (make, module):
            found = ms.inspect(source, (5,)).anatomy
            assert (found.forward_flops, found.backward_flops) == flops
            assert sum(layer.parameters for layer in found.layers) == found.counts.trainable == dimension
        assert all(p.grad is None and p is held[n] for n, p in module.named_parameters())
        assert {row.name for row in found.layers} >= {"h"}
