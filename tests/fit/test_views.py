"""Each member its own data: held against a bare loop over that member's samples, in float64."""

import ctypes
import gc
import resource
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.plain import relative_error
from support.sampled import sampled
from torch import nn

import modelspace as ms
from modelspace.data import Data, Split, epoch_indices, folds_of, of_label_columns, of_tasks, views_of
from modelspace.engine import Plan
from modelspace.errors import ModelspaceError
from modelspace.fit import Options, prepare, program, train
from modelspace.fit.divide import divided

G = torch.Generator().manual_seed(0)
SIZE = 5


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))

    def forward(self, x):
        return self.body(x)


def samples(count):
    return torch.randn(count, 4, generator=G, dtype=torch.float64), torch.arange(count) % 3


def data(train=40, validation=20):
    return Data("d", *(Split(*samples(n)) for n in (train, validation, 8)))


TASKS = of_tasks([samples(n) for n in (7, 31, 18, 24)], splits=(0.75, 0.25, 0.0), name="tasks")
SPACE = ms.ModelSpace(Net, dtype=torch.float64)


def loop(seed, x, y, *, lr, epochs=3, steps=None, batch_size=SIZE, data_seed=0):
    """A bare loop over one member's samples: its point after, and the mean loss of each epoch."""
    torch.manual_seed(seed)
    net = Net().double()
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    means, made, epoch = [], 0, 0
    while made < steps if steps else epoch < epochs:
        losses = []
        for rows in epoch_indices(len(x), batch_size, data_seed, epoch):
            if steps is not None and made == steps:
                break
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            made += 1
        means.append(np.mean(losses))
        epoch += 1
    return net, means


def held(run, k, x, y, validation, **settings):
    """Hold member k of a run against the bare loop."""
    with torch.random.fork_rng():
        net, means = loop(int(run.table["seed"].iloc[k]), x, y, lr=float(run.table["lr"].iloc[k]), **settings)
    point = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
    assert relative_error(run.population.points[k], point) < 1e-9
    if settings.get("steps") is None:
        assert run.history["train_loss"][k].tolist() == pytest.approx(means, rel=1e-9)
    if validation is not None:
        with torch.no_grad():
            expected = F.cross_entropy(net(validation[0]), validation[1]).item()
        assert run.table["validation_loss"].iloc[k] == pytest.approx(expected, rel=1e-9)


def fit(population, data, plan, **settings):
    settings = {"epochs": 3, "batch_size": SIZE, "metrics": [], **settings}
    return ms.fit(population, data, plan={"threads": 1, "workers": 1, **plan}, **settings)


PLANS = [
    {"lowering": "vmap", "compile": False, "shard": 4},
    {"lowering": "loop", "compile": False, "shard": 3},
]
every_plan = pytest.mark.parametrize("plan", PLANS, ids=["vmap", "loop"])


@every_plan
def test_folds(plan):
    whole = data()
    population = SPACE.sample(seeds=2, fold=[0, 1, 2, 3], lr=[0.01, 0.03])
    run = fit(population, whole, plan)
    x, y = (torch.cat([getattr(s, n) for s in (whole.train, whole.validation)]) for n in ("inputs", "labels"))
    folds = torch.from_numpy(folds_of(Split(x, y), 4, 0))
    assert np.bincount(folds.numpy()).tolist() == [15] * 4
    for k in range(0, len(population), 3):
        fold = int(run.table["fold"].iloc[k])
        inside, outside = folds == fold, folds != fold
        held(run, k, x[outside], y[outside], (x[inside], y[inside]))


@every_plan
@pytest.mark.parametrize("column", ["bootstrap", "samples"])
def test_resamples_and_subsets(plan, column):
    whole = data()
    values = [3, 7, 1000] if column == "bootstrap" else [2, 11, 40]
    population = SPACE.sample(seeds=2, lr=[0.02], **{column: values})
    run = fit(population, whole, plan)
    views = views_of(whole, population.table, None, 0)
    for k in range(len(population)):
        rows = views.train(k)
        value = int(run.table[column].iloc[k])
        assert len(rows) == (40 if column == "bootstrap" else value)
        if column == "bootstrap":  # about 1 − 1/e of the samples are in a resample
            assert 0.5 < len(rows.unique()) / 40 < 0.78
        else:
            assert set(rows.tolist()) <= set(views.train(len(population) - 1).tolist())
        x, y = whole.train.inputs[rows], whole.train.labels[rows]
        held(run, k, x, y, (whole.validation.inputs, whole.validation.labels))


@every_plan
@pytest.mark.parametrize("given", [{"epochs": 3}, {"steps": 10}], ids=str)
def test_ragged_tasks(plan, given):
    population = SPACE.sample(seeds=2, task=[0, 1, 2, 3], lr=[0.02])
    run = fit(population, TASKS, plan, **given)
    for k in range(len(population)):
        task = int(run.table["task"].iloc[k])
        own = [torch.from_numpy(TASKS.tasks[name] == task) for name in ("train", "validation")]
        x, y = TASKS.train.inputs[own[0]], TASKS.train.labels[own[0]]
        there = TASKS.validation.inputs[own[1]], TASKS.validation.labels[own[1]]
        steps = given.get("steps")
        held(run, k, x, y, there, steps=steps)
        each = len(x) // min(len(x), SIZE)
        assert run.table["steps"].iloc[k] == (steps or 3 * each)


def test_ragged_members_follow_schedules_of_their_own_length():
    population = SPACE.sample(seeds=1, task=[1, 2], lr=[0.02])
    run = fit(population, TASKS, PLANS[0], schedule="cosine", optimizer="sgd")
    for k, task in enumerate((1, 2)):
        own = torch.from_numpy(TASKS.tasks["train"] == task)
        x, y = TASKS.train.inputs[own], TASKS.train.labels[own]
        torch.manual_seed(0)
        net = Net().double()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.02)
        total = 3 * (len(x) // SIZE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
        for epoch in range(3):
            for rows in epoch_indices(len(x), SIZE, 0, epoch):
                optimizer.zero_grad()
                F.cross_entropy(net(x[rows]), y[rows]).backward()
                optimizer.step()
                schedule.step()
        point = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
        assert relative_error(run.population.points[k], point) < 1e-9


def test_an_interrupted_run_of_tasks_goes_on_bit_for_bit(tmp_path):
    population = SPACE.sample(seeds=2, task=[1, 3], lr=[0.02])
    whole = fit(population, TASKS, PLANS[0], epochs=4)
    fit(population, TASKS, PLANS[0], epochs=2, out=tmp_path / "run")
    resumed = fit(population, TASKS, PLANS[0], epochs=4, out=tmp_path / "run")
    assert torch.equal(resumed.population.points, whole.population.points)
    other = replace(TASKS, tasks={name: ids[::-1].copy() for name, ids in TASKS.tasks.items()})
    with pytest.raises(ModelspaceError, match="samples"):
        fit(population, other, PLANS[0], epochs=4, out=tmp_path / "run")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"task": [0, 9]}, "column task has 9, and data 'tasks' has tasks 0 to 3"),
        ({"fold": [-1]}, r"column fold is which of the folds, from 0: .* received -1 \(member 0\)"),
        ({"samples": [0]}, r"column samples: 0 of member 0, which has 60 training samples: give 1 to 60"),
        (
            {"bootstrap": [0.5]},
            "column bootstrap is seed of a resample .*: a whole number of at least 0; received 0.5",
        ),
    ],
)
def test_what_is_refused(columns, message):
    population = SPACE.sample(seeds=1, lr=[0.1]).with_columns(**{n: v[:1] for n, v in columns.items()})
    if len(next(iter(columns.values()))) > 1:
        population = SPACE.sample(seeds=1, lr=[0.1], **columns)
    with pytest.raises(ModelspaceError, match=message):
        fit(population, TASKS, PLANS[0])


def test_folds_that_cannot_be_made():
    one_class = Data("d", *(Split(torch.randn(n, 4), torch.zeros(n, dtype=torch.int64)) for n in (20, 4, 4)))
    with pytest.raises(ModelspaceError, match="3 folds of samples that are all of one class"):
        fit(SPACE.sample(seeds=1, fold=[0, 1, 2], lr=[0.1]), one_class, PLANS[0])
    few = Data(
        "d",
        Split(torch.randn(20, 4), (torch.arange(20) == 0) * 1 + (torch.arange(20) == 1) * 1),
        Split(*samples(0)),
        Split(*samples(0)),
    )
    with pytest.raises(ModelspaceError, match="5 folds: some class has 2 samples"):
        fit(SPACE.sample(seeds=1, fold=[0, 4], lr=[0.1]), few, PLANS[0])


@every_plan
def test_members_of_many_different_numbers_of_samples_are_each_scored_on_their_own(plan):
    tasks = of_tasks([samples(n) for n in range(4, 64, 3)], splits=(0.6, 0.4, 0.0))
    run = fit(SPACE.sample(seeds=1, task=range(20), lr=[0.02]), tasks, plan, steps=2)
    for k, module in enumerate(run.population.modules()):
        own = torch.from_numpy(tasks.tasks["validation"] == k)
        expected = F.cross_entropy(module(tasks.validation.inputs[own]), tasks.validation.labels[own]).item()
        assert run.table["validation_loss"].iloc[k] == pytest.approx(expected, rel=1e-9)


def columns(train=40, validation=20):
    """Three label columns of classes, some of the second missing."""
    parts = []
    for count in (train, validation, 8):
        x, y = samples(count)
        labels = torch.stack([y, (y + torch.arange(count) // 4) % 3, y.flip(0)], 1)
        labels[::3, 1] = -100
        parts.append(Split(x, labels))
    return Data("d", *parts)


@every_plan
@pytest.mark.parametrize("given", [{}, {"steps": 10}], ids=str)
@pytest.mark.parametrize("own", [{}, {"samples": [11]}, {"bootstrap": [3, 4]}], ids=str)
def test_label_columns(plan, given, own):
    """Each member on one column, against a bare loop; the inputs are there once."""
    whole = columns()
    data = of_label_columns(whole, name="c")
    assert data.train.inputs.of is whole.train.inputs
    population = SPACE.sample(seeds=2, task=[0, 1, 2], lr=[0.02], **own)
    run = fit(population, data, plan, **given)
    views = views_of(data, population.table, None, 0)
    for k in range(0, len(population), 2):
        column = int(run.table["task"].iloc[k])
        x, y = (getattr(whole.train, n) for n in ("inputs", "labels"))
        there = (y[:, column] != -100).nonzero()[:, 0]
        # The member's rows of all labels, one column after the other, as rows of its own column.
        rows = there[views.train(k) - int((data.tasks["train"] < column).sum())]
        if not own:
            assert rows.tolist() == there.tolist()
        scored = whole.validation.labels[:, column] != -100
        validation = whole.validation.inputs[scored], whole.validation.labels[scored, column]
        held(run, k, x[rows], y[rows, column], validation, **given)


@every_plan
def test_folds_of_label_columns(plan):
    whole = columns(train=60, validation=0)
    data = of_label_columns(whole)
    run = fit(SPACE.sample(seeds=1, task=[0, 1], fold=[0, 2], lr=[0.02]), data, plan)
    for k in range(4):
        column, fold = (int(run.table[n].iloc[k]) for n in ("task", "fold"))
        y = whole.train.labels[:, column]
        x, y = whole.train.inputs[y != -100], y[y != -100]
        folds = torch.from_numpy(folds_of(Split(x, y), 3, 0))
        inside, outside = folds == fold, folds != fold
        held(run, k, x[outside], y[outside], (x[inside], y[inside]))


def test_label_columns_of_what_is_not_split_and_of_parts_by_name():
    x = torch.randn(30, 4)
    targets = {"a": torch.randn(30), "b": torch.randn(30)}
    targets["b"][:12] = torch.nan
    for labels in (targets, torch.stack([*targets.values()], 1)):
        data = of_label_columns((x, labels), seed=3)
        assert repr(data).startswith("Data('columns': 2 tasks, ")
        seen = []
        for name, split in data.splits.items():
            inputs, own = split.take(slice(None)).inputs, data.tasks[name]
            rows = (inputs[:, None] == x).all(2).int().argmax(1)
            assert torch.equal(split.labels, torch.stack([*targets.values()], 1)[rows, own])
            assert torch.equal(rows[own == 1], rows[own == 0][~targets["b"][rows[own == 0]].isnan()])
            seen += rows[own == 0].tolist()
        assert sorted(seen) == list(range(30)), "one split of the samples for all columns"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(12), r"labels are tasks, and there are scalar float32: give \[N, M\]"),
        (
            {"a": torch.zeros(12), "b": torch.zeros(12).long()},
            "the columns of its labels are not alike: a scalar",
        ),
        (torch.stack([torch.zeros(12), torch.full((12,), torch.nan)], 1), "column 1 of the labels has none"),
        (torch.tensor([[0, -3], [1, -2]] * 6), "of the labels of the train split are negative"),
    ],
)
def test_label_columns_that_are_none(labels, message):
    with pytest.raises(ModelspaceError, match=message):
        of_label_columns((torch.randn(12, 4), labels))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel says how much is in memory")
@pytest.mark.parametrize(
    "columns",
    sampled(
        [
            {"bootstrap": range(100_000)},
            {"samples": range(1, 6001, 6), "bootstrap": range(100)},
            {"fold": range(5), "bootstrap": range(20_000)},
            {"task": range(2_500), "bootstrap": range(40)},
            {"task": range(500), "fold": range(2), "bootstrap": range(100)},
            {"column": range(1_000), "bootstrap": range(100)},
        ],
        3,
    ),
    ids="+".join,
)
def test_memory_does_not_grow_with_members_that_have_their_own_data(columns):
    """10⁵ members over 10⁴ samples, whose rows alone would be gigabytes: no more than 256 MiB, one shard trained."""

    def resident():
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what an earlier test has let go of
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

    x, y = torch.randn(10_000, 4), torch.arange(10_000) % 2
    if "column" in columns:  # a thousand columns over inputs that a copy each would make 8 GB
        x, y = torch.randn(1_000, 2_000), torch.randint(2, (1_000, 1_000))
        columns = {"task": columns["column"], "bootstrap": columns["bootstrap"]}
        whole = of_label_columns((x, y), splits=(0.75, 0.25, 0))
    elif "task" in columns:
        each = 10_000 // len(columns["task"])
        tasks = zip(x.split(each), y.split(each), strict=True)
        whole = of_tasks(tasks, splits=(1, 0, 0) if "fold" in columns else (0.75, 0.25, 0))
    else:
        whole = ms.data.load((x, y), splits=(0.75, 0.25, 0))
    before = resident()
    space = ms.ModelSpace(nn.Linear, in_features=x.shape[1], out_features=2)
    population = space.sample(seeds=1, lr=[0.1], **columns)
    recipe = Options(epochs=1, batch_size=2, steps=3).resolved(population, whole)
    parts = divided(population, whole, recipe)
    assert sum(len(part.rows) for part in parts) == 100_000
    task = prepare(parts[-1].population, whole, parts[-1].recipe, rows=parts[-1].rows)
    shard = program(task, Plan("vmap", 64, False, 1, "for the test"))
    result = train(task, shard, parts[-1].rows[:64].tolist())
    assert all(len(value) == 64 for value in result.values())
    assert resident() - before < 256
