import pytest
import torch
from torch import nn

from modelspace import ModelSpace
from modelspace.engine import Batch, CompileError, Function, compiled, using_threads, vmap_gradient
from modelspace.engine.program import is_compiled, signature


def step(points, state, rate):
    points.sub_(rate * points)
    state["sum"].add_(points)
    return {"norm": points.norm(), "same": (points * 2,)}


def arguments(rows=3):
    return torch.ones(rows, 2), {"sum": torch.zeros(rows, 2)}, 0.5


def test_a_program_computes_the_function_and_is_made_once(compilations):
    given = arguments()
    program = compiled(step, *given, key="test_compile")
    assert torch.equal(given[0], torch.ones(3, 2)), "compiling wrote into the examples"
    assert torch.equal(given[1]["sum"], torch.zeros(3, 2))
    for _ in range(2):
        found = program(*given)
    expected = arguments()
    for _ in range(2):
        wanted = step(*expected)
    assert torch.equal(given[0], expected[0])
    assert torch.equal(given[1]["sum"], expected[1]["sum"])
    assert torch.allclose(found["norm"], wanted["norm"])
    assert torch.equal(found["same"][0], wanted["same"][0])

    assert len(compilations) == 1
    assert compiled(step, *arguments(), key="test_compile") is program
    assert len(compilations) == 1
    assert is_compiled(arguments(), "test_compile")
    assert not is_compiled(arguments(4), "test_compile")
    assert not is_compiled(arguments(), None)


def test_the_signature_is_shapes_types_devices_and_constants():
    base = signature(arguments(), "key")
    assert signature(arguments(), "key") == base
    points, state, rate = arguments()
    assert signature((points.double(), state, rate), "key") != base
    assert signature((points, {"other": state["sum"]}, rate), "key") != base
    assert signature((points, state, 0.25), "key") != base
    assert signature(arguments(), "other") != base


def test_what_cannot_be_traced_is_said():
    with pytest.raises(CompileError, match=r"data-dependent|item|Dynamic|value"):
        compiled(lambda x: x + 1 if x.sum() > 0 else x, torch.ones(2))


def test_a_missing_compiler_is_said(monkeypatch):
    def missing(*args, **kwargs):
        raise RuntimeError("InvalidCxxCompiler: no working C++ compiler found\nin this long list")

    monkeypatch.setattr(torch._inductor, "compile", missing)
    with pytest.raises(CompileError, match=r"no working C\+\+ compiler found$"):
        compiled(lambda x: x + 1, torch.ones(2))


class Ends(nn.Module):
    """The last moment of sequences of different lengths."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(8, 32), nn.Linear(32, 3)

    def forward(self, x):
        samples = torch.arange(len(x))
        return self.head(self.first(x)[samples, samples % x.shape[1]])


def test_gradients_of_an_index_are_right_with_two_threads():
    """Inductor alone gets half of them wrong, and writes outside its memory."""
    space = ModelSpace(Ends)
    function, points = Function(space), space.sample(seeds=4).points
    batch = Batch(torch.randn(8, 5, 8), torch.randint(3, (8,)), False)

    def gradient(points):
        loss = nn.functional.cross_entropy
        return vmap_gradient(function, loss, points, {}, batch, torch.arange(4), torch.tensor(0)).gradient

    with using_threads(2):
        found = compiled(gradient, points)(points)
    assert torch.allclose(found, gradient(points), rtol=1e-4, atol=1e-6)
