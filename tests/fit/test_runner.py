"""Runners: by name, or one's own."""

import importlib.util

import numpy as np
import pytest
import torch
from support import plans
from support.cases import BATCH, named

import modelspace as ms
from modelspace.fit import local

CASE = named("MLP dropout")
SETTINGS = {"epochs": 2, "batch_size": BATCH, "shard": 2, "lowering": "vmap", "compile": False, "threads": 1}


def fit(runner, **settings):
    members = CASE.space(torch.float64).sample(seeds=5)
    return plans.fit(members, CASE.data(), runner=runner, workers=1, **SETTINGS, **settings)


class Backwards:
    """The last shard first."""

    def __init__(self):
        self.shards = []

    def __call__(self, job, shards, record, advance):
        self.shards += shards
        return local(job, shards[::-1], record, advance)


def test_a_runner_of_one_s_own_gets_the_shards_and_its_run_is_the_run(tmp_path):
    runner = Backwards()
    run, other = fit(runner, out=tmp_path), fit("local")
    assert runner.shards == [[0, 1], [2, 3], [4]]
    assert torch.equal(run.population.points, other.population.points)
    assert run.table.equals(other.table)
    assert np.array_equal(run.history["train_loss"], other.history["train_loss"])
    assert torch.equal(
        ms.open_run(tmp_path, CASE.space(torch.float64)).population.points, run.population.points
    )


def test_what_a_runner_raises_is_raised_and_ctrl_c_in_it_gives_the_run_until_then():
    def interrupted(job, shards, record, advance):
        local(job, shards[:1], record, advance)
        raise KeyboardInterrupt

    def failing(*arguments):
        raise ms.ModelspaceError("no machine is free")

    run = fit(interrupted)
    assert run.interrupted
    assert run.status.tolist() == ["finished"] * 2 + ["unfinished"] * 3
    with pytest.raises(ms.ModelspaceError, match="no machine is free"):
        fit(failing)


def test_an_unknown_name_is_said():
    with pytest.raises(
        ms.ModelspaceError, match=r"unknown runner 'rya': did you mean 'ray'\? Known: local, ray"
    ):
        fit("rya")


def test_without_ray_its_runner_says_how_to_get_it(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else find(name))
    with pytest.raises(ms.ModelspaceError, match=r"pip install 'torch-modelspace\[ray\]'"):
        fit("ray")
