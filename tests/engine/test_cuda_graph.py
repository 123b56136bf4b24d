"""Programs as CUDA graphs: on a GPU for real; without one, the copying around a recording that is played by hand."""

from collections import OrderedDict
from contextlib import contextmanager, nullcontext

import pytest
import torch
from support import plans
from support.cases import named

from modelspace.engine import program as programs
from modelspace.engine.measurements import Timing


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
    graph = plans.fit(population, case.data(), **settings)
    assert compile or "a CUDA graph" in graph.plan.reason
    monkeypatch.setattr("modelspace.engine.program.captured_if_faster", lambda program, _: (program, False))
    monkeypatch.setattr("modelspace.engine.program._programs", OrderedDict())
    plain = plans.fit(population, case.data(), **settings)
    assert "a CUDA graph" not in plain.plan.reason
    assert torch.equal(graph.population.points, plain.population.points)
