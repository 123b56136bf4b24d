"""Shards in several processes, and what happens when memory runs out."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import plans
from support.cases import BATCH, named

import modelspace as ms
from modelspace.fit import pieces
from modelspace.runs import Status

CASE = named("MLP dropout")
SETTINGS = {"epochs": 3, "batch_size": BATCH, "compile": False, "threads": 1, "optimizer": ms.SGD()}


def fit(population, **settings):
    return plans.fit(population, CASE.data(), **{**SETTINGS, "lowering": "vmap", **settings})


def population(lr=0.1, dtype=torch.float64):
    return CASE.space(dtype).sample(seeds=7).with_columns(lr=lr)


def same(one, other):
    assert torch.equal(one.population.points, other.population.points)
    assert one.status.tolist() == other.status.tolist()
    assert one.steps.tolist() == other.steps.tolist()
    for name, values in one.history.items():
        assert np.array_equal(values, other.history[name], equal_nan=True)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=4), st.integers(1, 20))
def test_pieces_cover_the_shards_in_order_and_none_is_of_two(lengths, size):
    ends = np.cumsum(lengths).tolist()
    shards = [range(start, stop) for start, stop in zip([0, *ends[:-1]], ends, strict=True)]
    cut = pieces(shards, size)
    assert [m for rows in cut for m in rows] == list(range(ends[-1]))
    assert all(0 < len(rows) <= size for rows in cut)
    assert all(any(set(rows) <= set(shard) for shard in shards) for rows in cut)


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_several_processes_are_one_bit_for_bit(workers):
    members = population(lr=[0.1, 0.2, 1e300, 0.1, 0.3, 0.1, 0.1], dtype=torch.float32)
    one, several = fit(members, shard=2), fit(members, shard=2, workers=workers)
    assert several.plan.workers == workers
    assert several.status.tolist() == [Status.FINISHED] * 2 + [Status.DIVERGED] + [Status.FINISHED] * 4
    same(several, one)


def test_a_killed_process_loses_nothing(monkeypatch):
    train = plans.FIT.train
    parent = os.getpid()

    def killed(task, program, rows, *rest):
        if os.getpid() != parent and 2 in rows:
            os.kill(os.getpid(), signal.SIGKILL)
        return train(task, program, rows, *rest)

    whole = fit(population(), shard=2)
    monkeypatch.setattr(plans.FIT, "train", killed)
    run = fit(population(), shard=2, workers=2)
    assert "a worker process ended (killed by SIGKILL)" in run.plan.reason
    assert (run.status == Status.FINISHED).all()
    assert torch.allclose(run.population.points, whole.population.points, rtol=1e-9)


def test_out_of_memory_halves_the_shard_and_goes_on(monkeypatch, capsys):
    train = plans.FIT.train
    tried = []

    def scarce(task, program, *rest):
        tried.append(program.size)
        if program.size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return train(task, program, *rest)

    whole = fit(population(), shard=7)
    monkeypatch.setattr(plans.FIT, "train", scarce)
    run = fit(population(), shard=7, workers=1)
    assert tried == [7, 4, 2, 2, 2, 2]
    assert run.plan.shard == 2
    assert torch.allclose(run.population.points, whole.population.points, rtol=1e-9)
    assert "out of memory: going on in shards of 4 members" in capsys.readouterr().err


def test_one_member_that_does_not_fit_is_one_message(monkeypatch):
    def never(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(plans.FIT, "train", never)
    with pytest.raises(ms.ModelspaceError, match="out of memory, with a single member at a time"):
        fit(population(), shard=2, workers=1)


SCARCE = """
import resource, sys, torch, modelspace as ms
from torch import nn
from modelspace.fit import fit
if "unpredicted" in sys.argv:
    sys.modules[fit.__module__].free_bytes = lambda device: 2**60
def net():
    return nn.Sequential(nn.Linear(64, 1000), nn.ReLU(), nn.Linear(1000, 10))
population = ms.ModelSpace(net).sample(seeds=16, lr=[0.01])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20, -1))
x, y = torch.randn(4000, 64), torch.randint(10, (4000,))
data = {"train": (x, y), "validation": (x[:100], y[:100]), "test": (x[:100], y[:100])}
data = ms.data.of_splits(**data)
choices = dict(shard=16 if "unpredicted" in sys.argv else None, threads=1, workers=1, lowering="vmap", compile=False)
run = ms.fit(population, data, epochs=1, batch_size=4000, plan=choices)
print(run.plan.shard, (run.status == "finished").all())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
@pytest.mark.parametrize("how", ["predicted", "unpredicted"])
def test_a_machine_that_is_really_out_of_memory(how):
    done = subprocess.run([sys.executable, "-c", SCARCE, how], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    shard, finished = done.stdout.split()
    assert int(shard) < 16
    assert finished == "True"
    assert ("room for shards of" in done.stderr) == (how == "predicted")
