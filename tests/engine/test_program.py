"""Programs: compiled; and as CUDA graphs, on a GPU for real, without one around a recording played by hand."""

from collections import OrderedDict
from contextlib import contextmanager, nullcontext

import pytest
import torch
from support.cases import named
from support.plans import fit
from torch import nn

from modelspace import ModelSpace
from modelspace.engine import (
    Batch,
    CompileError,
    Function,
    compiled,
    traced,
    using_threads,
    vmap_gradient,
)
from modelspace.engine import program as programs
from modelspace.engine.measurements import Timing
from modelspace.engine.program import is_compiled, signature


def step(points, state, rate):
    points.sub_(rate * points)
    state["sum"].add_(points)
    return {"norm": points.norm(), "same": (points * 2,)}


def arguments(rows=3):
    return torch.ones(rows, 2), {"sum": torch.zeros(rows, 2)}, 0.5


@pytest.mark.parametrize("make", [compiled, traced])
def test_a_program_computes_the_function_and_is_made_once(compilations, make):
    given = arguments()
    program = make(step, *given, key="test_compile")
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

    assert len(compilations) == (make is compiled)
    assert make(step, *arguments(), key="test_compile") is program
    assert len(compilations) == (make is compiled)
    assert is_compiled(arguments(), "test_compile") or make is traced
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


@pytest.mark.parametrize("without", ["", "torch.jit", "tensors"])
def test_a_traced_list_is_called_by_python_where_there_is_no_interpreter(monkeypatch, without):
    if without == "torch.jit":
        monkeypatch.delattr(torch, "jit")
    more = ("constant",) if without == "tensors" else ()

    def function(x):
        kept = x.detach().view(2, 2)  # no operation of the list
        kept.add_(1)
        return (torch.tanh(kept).permute(1, 0), *more)

    given, expected = torch.randn(2, 2), torch.randn(2, 2)
    expected.copy_(given)
    program = traced(function, given)
    assert torch.equal(program(given)[0], function(expected)[0])
    assert torch.equal(given, expected)
    assert program(given)[1:] == more


@pytest.mark.parametrize("make", [compiled, traced])
def test_what_cannot_be_traced_is_said(make):
    with pytest.raises(CompileError, match=r"data-dependent|item|Dynamic|value"):
        make(lambda x: x + 1 if x.sum() > 0 else x, torch.ones(2))


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


def program(points, state):
    state = state + points
    points.mul_(2)  # a program may write into its arguments
    return [points - 0.1 * state, state, "constant"]


class Recording:
    """What stands for a CUDA graph here: the recorded program run again on its fixed tensors, into its outputs."""

    now: "Recording | None" = None

    def __init__(self):
        self.play = lambda: None

    def replay(self):
        self.play()


@pytest.fixture
def by_hand(monkeypatch):
    """CUDA's capture, played by hand on the CPU."""

    def remembering(*fixed):
        outputs = program(*fixed)
        recording = Recording.now
        if recording is not None:

            def play():
                for place, value in zip(outputs, program(*fixed), strict=True):
                    if isinstance(place, torch.Tensor):
                        place.copy_(value)

            recording.play = play
        return outputs

    class Stream:
        def wait_stream(self, other):
            pass

    @contextmanager
    def recorded(graph):
        Recording.now = graph
        yield
        Recording.now = None

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recording)
    monkeypatch.setattr(torch.cuda, "graph", recorded)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    return remembering


def test_a_replay_is_the_program_on_the_call_s_own_arguments(by_hand):
    examples = [torch.ones(3), torch.zeros(3)]
    replay = programs.captured(by_hand, examples)
    assert torch.equal(examples[0], torch.ones(3))
    points, state, kept = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([5.0, 6.0, 7.0]), []
    for _ in range(3):  # what a call gives is the next one's argument
        expected = program(points.clone(), state.clone())
        found = replay(points, state)
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
        assert found[2] == "constant"
        kept.append((found[0], expected[0]))
        points, state = found[0], found[1]
    for earlier, expected in kept:  # and later replays don't write over it
        assert torch.equal(earlier, expected)


def test_what_is_not_the_same_or_not_faster_stays_as_it_is(by_hand, monkeypatch):
    examples = [torch.ones(3), torch.zeros(3)]
    monkeypatch.setattr(programs, "timing_of_calls", lambda call, *_: Timing(float(call is not by_hand)))
    assert programs.captured_if_faster(by_hand, examples) == (by_hand, False)
    monkeypatch.setattr(programs, "timing_of_calls", lambda call, *_: Timing(float(call is by_hand)))
    assert programs.captured_if_faster(by_hand, examples)[1]
    monkeypatch.setattr(programs, "captured", lambda program, examples: lambda *a: [a[0], a[1], "constant"])
    assert programs.captured_if_faster(by_hand, examples) == (by_hand, False)


def test_what_can_t_be_captured_stays_as_it_is(by_hand, monkeypatch):
    def refuse(program, examples):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(programs, "captured", refuse)
    assert programs.captured_if_faster(by_hand, [torch.ones(3), torch.zeros(3)]) == (by_hand, False)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("compile", [False, True])
def test_a_graph_s_numbers_are_the_program_s_bit_for_bit(monkeypatch, compile):
    case = named("MLP tanh")
    population = case.space().sample(seeds=8, lr=[0.01]).to("cuda")
    settings = {"epochs": 3, "batch_size": 5, "compile": compile, "lowering": "vmap", "shard": 8}
    graph = fit(population, case.data(), **settings)
    assert compile or "a CUDA graph" in graph.plan.reason
    monkeypatch.setattr("modelspace.engine.program.captured_if_faster", lambda program, _: (program, False))
    monkeypatch.setattr("modelspace.engine.program._programs", OrderedDict())
    plain = fit(population, case.data(), **settings)
    assert "a CUDA graph" not in plain.plan.reason
    assert torch.equal(graph.population.points, plain.population.points)
