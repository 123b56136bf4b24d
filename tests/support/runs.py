"""What several tests of runs share: two runs held against each other, a folder that another process holds."""

import json
import multiprocessing
import sqlite3
from contextlib import closing, contextmanager

import numpy as np
import torch

from modelspace.runs.catalogue import _COLUMNS, _digest, seal_of
from modelspace.runs.folder import lock


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


def altered(folder, *statements, sealed=True):
    """A run's catalogue after some SQL; with a seal as if a run had written it so, unless not ``sealed``."""
    with closing(sqlite3.connect(folder / "run.sqlite", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
        if sealed:
            rows = {
                t: connection.execute(f"SELECT {c} FROM {t} ORDER BY number") for t, c in _COLUMNS.items()
            }
            digests = {table: {row[0]: _digest(row) for row in found} for table, found in rows.items()}
            ((text,),) = connection.execute("SELECT about FROM run").fetchall()
            seal = seal_of(str(text), digests)
            connection.execute("UPDATE run SET seal = ?", (seal,))


def put(folder, **values):
    """Other values in what a run's catalogue says of it; without one where None."""
    with closing(sqlite3.connect(folder / "run.sqlite", isolation_level=None)) as connection:
        ((text,),) = connection.execute("SELECT about FROM run").fetchall()
        about = {**json.loads(text), **values}
        connection.execute("UPDATE run SET about = ?", (json.dumps(about),))
    altered(folder)


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
    taken = lock(folder)
    ready.set()
    done.wait(60)
    taken.release()
