import os
from functools import cache
from importlib import import_module

import pytest
import torch
from support import typed

if os.environ.get("MODELSPACE_TYPES") == "1":
    typed.install()

if "PYTEST_XDIST_WORKER" in os.environ:
    # One process a core: more threads than cores wait for each other, in this process and in those that tests start.
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    """Tests draw from the global generator; each begins at the same state, whichever ran before it."""
    # Without a device torch.manual_seed takes 1 ms here, to keep the stack of the call for the day that one comes.
    (torch if torch.cuda.is_available() else torch.default_generator).manual_seed(0)


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    """What a plan measured in one test is not remembered in another, nor on the machine."""
    monkeypatch.setenv("MODELSPACE_CACHE", "")


@pytest.fixture
def compilations(monkeypatch):
    """The graphs that have gone to the compiler since the test began."""
    graphs = []
    compile = torch._inductor.compile

    def counted(graph, *args, **kwargs):
        graphs.append(graph)
        return compile(graph, *args, **kwargs)

    monkeypatch.setattr(torch._inductor, "compile", counted)
    return graphs


@cache
def _verdicts():
    return {}


@pytest.fixture
def checked_once(monkeypatch):
    """Fits in this test are not held again against what an earlier fit held their architecture against.

    Real modules are compared once in a process with each architecture, type, loss and kind of start
    (``engine/test_witness.py`` tests that alone); and the memory of a step is not traced, which
    ``fit/test_memory.py`` does for every architecture. Half of a short fit's time are these two.
    """
    task, plan, footprint = (
        import_module(f"modelspace.fit.{name}") for name in ("task", "plan", "footprint")
    )
    witnessed, verdicts = task.witnessed, _verdicts()

    def once(function, trial, *, batched=True):
        members = trial.population
        start = len(members), bool(members.points.isfinite().all()), sorted(members.buffers)
        batch = [(described(inputs), described(labels)) for inputs, labels in trial.batches]
        key = repr((members.space.signature(), str(trial.loss), sorted(trial.terms), batch, start, batched))
        if key not in verdicts:
            verdicts[key] = witnessed(function, trial, batched=batched)
        function.trust(verdicts[key])
        return verdicts[key]

    described = import_module("modelspace.nest").described
    nothing = footprint.Line(0, 0)
    monkeypatch.setattr(task, "witnessed", once)
    monkeypatch.setattr(
        plan, "footprint_of", lambda *_: footprint.Footprint(nothing, nothing, nothing, estimated=True)
    )
