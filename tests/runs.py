"""What several tests of runs share: two runs held against each other, a folder that another process holds."""

import multiprocessing
from contextlib import contextmanager

import numpy as np
import torch

from modelspace.fit.store import Store


def assert_same(run, other):
    """Points, buffers, curves, states and tables agree, bit for bit."""
    assert torch.equal(run.population.points, other.population.points)
    for name, value in run.population.buffers.items():
        assert torch.equal(value, other.population.buffers[name])
    for name, values in run.history.items():
        assert np.array_equal(values, other.history[name], equal_nan=True)
    assert run.status.tolist() == other.status.tolist()
    assert run.steps.tolist() == other.steps.tolist()
    assert run.kept.tolist() == other.kept.tolist()
    assert run.table.equals(other.table)


@contextmanager
def held(folder):
    """Within the block another process is at the run."""
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_holding, args=(folder, ready, done))
    process.start()
    try:
        assert ready.wait(60)
        yield
    finally:
        done.set()
        process.join()


def _holding(folder, ready, done):
    store = Store(folder, create=True)
    ready.set()
    done.wait(60)
    store.close()
