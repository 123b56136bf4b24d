import os

import pytest
import torch

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
