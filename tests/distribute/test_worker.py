"""A shard in a worker, without Ray: what is sent is enough, and what comes back is what the shard is here."""

import pickle

import pytest
import torch
from support.cases import BATCH, named

import modelspace as ms
from modelspace.distribute import worker
from modelspace.distribute.parcel import common_of, piece_of, unpacked
from modelspace.fit import Job, Recipe, measured, prepare, program, train
from modelspace.runs import needed

SETTINGS = {"epochs": 2, "batch_size": BATCH, "optimizer": ms.Adam(), "early_stopping": ms.EarlyStopping(1)}


@pytest.fixture(scope="module", params=["MLP dropout", "VAE", "padding mask"])
def job(request):
    case = named(request.param)
    population, data = case.space(torch.float32).sample(seeds=3, lr=[0.01, 1e300]), case.data()
    task = prepare(population, data, Recipe(**SETTINGS, **case.goal).resolved(population, data))
    choices = {"lowering": "vmap", "shard": 4, "compile": False, "threads": 1, "workers": 1}
    return Job(task, *measured(task, choices))


def trained(job, rows, needs, begun=None):
    """What a worker sends back."""
    fetch = lambda: pickle.dumps(common_of(job, needs))  # noqa: E731
    plan = worker.without_processes(job.plan)
    answer = worker.train(f"{id(job)} {needs}", fetch, plan, piece_of(job, rows, begun), lambda steps: None)
    assert answer.failure == "", answer.trace
    return unpacked(answer.tensors)


@pytest.mark.parametrize("needs", ["all", "points", "scores"])
def test_a_worker_s_shard_is_the_one_here_bit_for_bit(job, needs):
    rows = [1, 2, 4]
    here = needed(train(job.task, program(job.task, job.plan), rows), needs)
    there = trained(job, rows, needs)
    assert there.keys() == here.keys()
    assert all(torch.equal(there[name].nan_to_num(), value.nan_to_num()) for name, value in here.items())


def test_a_worker_goes_on_from_a_checkpoint(job):
    rows, checkpoints = [0, 3], []

    class Recorder:
        due = True

        def checkpoint(self, rows, tensors):
            checkpoints.append({name: value.clone() for name, value in tensors.items()})

    whole = train(job.task, program(job.task, job.plan), rows, recorder=Recorder())
    assert len(checkpoints) == 2 * job.task.steps + 2
    for begun in (checkpoints[1], checkpoints[job.task.steps]):
        again = trained(job, rows, "all", begun)
        assert all(torch.equal(again[name].nan_to_num(), value.nan_to_num()) for name, value in whole.items())


def of_weights(model):
    return next(model.parameters()).norm()


def test_a_worker_records_at_the_times_of_the_whole_fit():
    x, y = torch.randn(23, 6), torch.arange(23) % 3
    data = ms.data.of_tasks([(x[:n], y[:n]) for n in (8, 23, 14)], splits=(0.75, 0.25, 0.0), name="tasks")
    population = named("MLP tanh").space(torch.float32).sample(seeds=1, task=range(3), lr=[0.01])
    record = ["points", ms.Record(of_weights, logarithmic=4), ms.Record("grad_norm", every=3)]
    recipe = Recipe(epochs=2, batch_size=5, record=record).resolved(population, data)
    task = prepare(population, data, recipe)
    choices = {"lowering": "vmap", "shard": 2, "compile": False, "threads": 1, "workers": 1}
    ragged = Job(task, *measured(task, choices))
    for rows in ([0], [1, 2]):  # the first worker knows of the shortest member alone
        here = needed(train(task, program(task, ragged.plan), rows), "scores")
        there = trained(ragged, rows, "scores")
        assert there.keys() == here.keys() >= {"records.values.points", "records.steps.of_weights"}
        assert all(torch.equal(there[n].nan_to_num(), value.nan_to_num()) for n, value in here.items())
