"""Divisions drawn anew: each as the data's own would be, of samples that stand in memory once."""

import pytest
import torch
from torch import nn

import modelspace as ms
from modelspace import ModelspaceError
from modelspace.nest import Shared


def test_every_division_holds_every_sample_once_with_classes_in_their_shares():
    data = ms.data.digits()
    found = ms.data.resplit(data, [3, 4])
    assert {name: len(split) for name, split in found.splits.items()} == {
        name: 2 * len(split) for name, split in data.splits.items()
    }
    rows = []
    for task in (0, 1):
        own = {name: torch.from_numpy(ids == task) for name, ids in found.tasks.items()}
        taken = {name: found.splits[name].inputs.rows[own[name]] for name in own}
        assert torch.cat([*taken.values()]).sort().values.tolist() == list(range(1797))
        counts = torch.bincount(found.train.labels[own["train"]], minlength=10)
        assert (counts - torch.bincount(data.train.labels, minlength=10)).abs().max() <= 1
        rows.append(taken["test"].tolist())
    assert rows[0] != rows[1]
    assert ms.data.resplit(data, [4]).test.inputs.rows.tolist() == rows[1]
    pixels = {
        split.inputs.of.data_ptr() for split in found.splits.values() if isinstance(split.inputs, Shared)
    }
    assert len(pixels) == 1


def test_groups_stay_together():
    x, groups = torch.randn(60, 2), torch.arange(60) // 6
    data = ms.data.load((x, (x[:, 0] > 0).long()), group=groups.numpy())
    of_row = torch.cat([split.groups for split in data.splits.values()])  # in the order of the pool
    found = ms.data.resplit(data, range(3))
    for task in range(3):
        own = [
            {*of_row[s.inputs.rows[torch.from_numpy(i == task)].long()].tolist()}
            for s, i in zip(found.splits.values(), found.tasks.values(), strict=True)
        ]
        assert sum(map(len, own)) == 10


def test_what_can_t_be_divided_is_refused():
    tasks = ms.data.of_tasks([(torch.randn(9, 2), torch.randn(9, 1))] * 2)
    with pytest.raises(ModelspaceError, match="are several tasks: they can't be divided anew"):
        ms.data.resplit(tasks, [0])


def test_members_of_tasks_are_evaluated_on_their_own_samples():
    """Against the module on its task's samples alone; every number of samples differs."""
    generator = torch.Generator().manual_seed(0)
    tasks = [
        (torch.randn(n, 4, generator=generator), torch.randint(0, 3, (n,), generator=generator))
        for n in (20, 37, 51)
    ]
    data = ms.data.of_tasks(tasks, splits=(0.5, 0.25, 0.25))
    space = ms.ModelSpace(nn.Linear, in_features=4, out_features=3, dtype=torch.float64)
    population = space.sample(2, task=range(3))
    for split in ("test", "train"):
        found = ms.evaluate(population, data, ["accuracy", "loss", "macro_f1"], split=split)
        for k, task in enumerate(population.table["task"]):
            own = data.splits[split].take(torch.from_numpy(data.tasks[split] == task))
            alone = ms.data.of_splits(own, own, own)
            expected = ms.evaluate(
                population[[k]].without_columns("task"), alone, ["accuracy", "loss", "macro_f1"]
            )
            for name in ("accuracy", "loss", "macro_f1"):
                assert found[name][k] == pytest.approx(expected[name][0], rel=1e-12)
    one = population[[0, 1]]
    assert ms.confusion(one, data).counts.sum() == 2 * (data.tasks["test"] == 0).sum()
    with pytest.raises(ModelspaceError, match="members of several tasks"):
        ms.confusion(population, data)
