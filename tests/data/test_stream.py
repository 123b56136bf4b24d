"""Batches of a loader as they come: trained as the plain loop over the same loader does, read again bit for bit."""

import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.plain import relative_error
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    get_worker_info,
)

import modelspace as ms
from modelspace.data import Rows, epoch_seed
from modelspace.errors import ModelspaceError

G = torch.Generator().manual_seed(0)
X, Y = torch.randn(53, 6, generator=G, dtype=torch.float64), torch.arange(53) % 3
HELD = X[:20], Y[:20]
SPACE = ms.ModelSpace(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)), input_shape=(6,)).in_dtype(
    torch.float64
)
PLAN = {"lowering": "vmap", "compile": False, "shard": 2, "threads": 1}


class Drawn(Dataset):
    """Items with noise of PyTorch's, NumPy's and Python's streams."""

    def __len__(self):
        return 53

    def __getitem__(self, i):
        return X[i] + 0.1 * torch.randn(6) + 0.1 * float(np.random.randn()), Y[i]  # noqa: NPY002


class Endless(IterableDataset):
    """Samples one after the other, a part to each worker; of a length that nobody knows."""

    def __init__(self, most=None):
        self.most = most

    def __iter__(self):
        worker, i = get_worker_info(), 0
        begin, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        while self.most is None or i < self.most:
            if i % step == begin:
                yield X[i % 53] * 1.0, Y[i % 53]
            i += 1


def shuffled(dataset=None, **settings):
    dataset = TensorDataset(X, Y) if dataset is None else dataset
    return DataLoader(dataset, **{"batch_size": 8, "shuffle": True, **settings})


def weighted():
    sampler = WeightedRandomSampler(Y.double() + 1, 40, generator=torch.Generator())
    return DataLoader(TensorDataset(X, Y), sampler=sampler, batch_size=8)


def sized():
    sampler = BatchSampler(RandomSampler(X, generator=torch.Generator()), 8, drop_last=False)
    return DataLoader(Drawn(), batch_sampler=sampler)


LOADERS = {
    "shuffled": shuffled,
    "without the last": lambda: shuffled(drop_last=True),
    "a generator": lambda: shuffled(Drawn(), generator=torch.Generator()),
    "a sampler": weighted,
    "a batch sampler": sized,
    "workers": lambda: shuffled(Drawn(), num_workers=2),
    "a collate function": lambda: shuffled(
        collate_fn=lambda s: tuple(map(torch.stack, zip(*s, strict=True)))
    ),
    "iterable": lambda: DataLoader(Endless(45), batch_size=8),
}


def fit(data, population=None, **settings):
    population = SPACE.sample(seeds=3, lr=[0.05]) if population is None else population
    return ms.fit(population, data, **{"epochs": 3, "plan": PLAN, **settings})


def plain_loop(loader, k, epochs=3, steps=10**6):
    """The loop that one would write; its random numbers are seeded before each epoch."""
    net, made = SPACE.sample(seeds=[k]).module(0), 0
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    for epoch in range(epochs):
        torch.manual_seed(epoch_seed(0, epoch))
        np.random.seed(epoch_seed(0, epoch) % 2**32)  # noqa: NPY002
        for owner in (loader, loader.sampler, getattr(loader.batch_sampler, "sampler", None)):
            if getattr(owner, "generator", None) is not None:
                owner.generator.manual_seed(epoch_seed(0, epoch))
        for x, y in loader:
            if made < steps:
                optimizer.zero_grad()
                F.cross_entropy(net(x), y).backward()
                optimizer.step()
            made += 1
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()])[None]


@pytest.mark.parametrize("name", LOADERS)
def test_members_are_trained_as_by_a_loop_over_the_loader(name):
    run = fit(ms.data.stream(LOADERS[name](), HELD))
    for k in (0, 2):  # of two shards
        assert relative_error(run.population.points[k][None], plain_loop(LOADERS[name](), k)) < 1e-9


def test_the_loop_and_steps_and_a_transform():
    loader = shuffled()
    run = fit(ms.data.stream(loader), plan={**PLAN, "lowering": "loop"}, steps=10)
    assert relative_error(run.population.points[1][None], plain_loop(loader, 1, 2, 10)) < 1e-9
    assert run.table["steps"].tolist() == [10] * 3
    one = fit(ms.data.stream(loader), transform=lambda x: x + torch.randn_like(x))
    assert torch.equal(
        one.population.points,
        fit(ms.data.stream(loader), transform=lambda x: x + torch.randn_like(x)).population.points,
    )


def test_members_of_a_stream_have_strengths_of_their_own():
    def noisy(x, augment=0.0):
        return x + augment * torch.randn_like(x)

    members = SPACE.sample(seeds=[1], lr=[0.05], augment=[0, 0.5])
    run = fit(ms.data.stream(shuffled()), members, transform=noisy)
    assert relative_error(run.population.points[:1], plain_loop(shuffled(), 1)) < 1e-9
    assert relative_error(run.population.points[1:], plain_loop(shuffled(), 1)) > 1e-3
    # An incomplete last batch is not compiled; the others are.
    compiled = fit(ms.data.stream(shuffled()), members, transform=noisy, plan={**PLAN, "compile": True})
    assert relative_error(compiled.population.points, run.population.points) < 1e-9


def test_an_endless_one_is_as_long_as_is_said_and_others_are_counted():
    assert ms.data.stream(DataLoader(Endless(45), batch_size=8)).train.batches == 6
    endless = ms.data.stream(DataLoader(Endless(), batch_size=8), batches=5)
    assert fit(endless, epochs=2).table["steps"].tolist() == [10] * 3


def test_global_streams_are_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    list(ms.data.stream(shuffled(Drawn())).train.read(0, 0))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("loader", ["a generator", "workers"])
def test_a_run_goes_on_bit_for_bit_in_the_midst_of_an_epoch(tmp_path, loader):
    whole = fit(ms.data.stream(LOADERS[loader](), HELD))

    class Stopped(Exception):
        pass

    read, made = ms.data.Streamed.read, []

    def broken(self, *args):
        for batch in read(self, *args):
            made.append(1)
            if len(made) == 24:
                raise Stopped
            yield batch

    data = ms.data.stream(LOADERS[loader](), HELD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ms.data.Streamed, "read", broken)
        with pytest.raises(Stopped):
            fit(data, out=tmp_path / "run", checkpoint_seconds=0)
    again = fit(ms.data.stream(LOADERS[loader](), HELD), out=tmp_path / "run")
    assert torch.equal(again.population.points, whole.population.points)
    assert again.table["validation_loss"].tolist() == whole.table["validation_loss"].tolist()


class Named(Dataset):
    """Inputs of two parts."""

    def __len__(self):
        return 53

    def __getitem__(self, i):
        return {"a": X[i, :4], "b": X[i, 4:], "label": Y[i]}


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(2, 3)

    def forward(self, a, b):
        return self.a(a) + self.b(b)


def test_a_validation_loader_is_scored_as_the_same_in_memory():
    """Means over pieces, scores of the whole, and nests; the loader may even shuffle, as long as it is seeded."""
    scores = ["accuracy", "macro_f1", "auroc"]
    parts = X[:50], Y[:50]
    for validation in (
        DataLoader(TensorDataset(*parts), 7),
        DataLoader(TensorDataset(*parts), 7, shuffle=True),
    ):
        runs = [
            fit(ms.data.stream(shuffled(), held), metrics=scores).table
            for held in (validation, parts, TensorDataset(*parts))
        ]
        for name in ("loss", *scores):
            values = [run[f"validation_{name}"].to_numpy() for run in runs]
            assert np.allclose(values[0], values[1], rtol=1e-12)
            assert np.allclose(values[2], values[1], rtol=1e-12)
    loader = DataLoader(Named(), 9)
    data = ms.data.stream(loader, loader, loader)
    members = ms.ModelSpace(Two).in_dtype(torch.float64).sample(seeds=3, lr=[0.1])
    scored = ms.evaluate(members, data, ["loss", *scores])
    held = ms.evaluate(
        members, ms.data.of_splits(*[{"a": X[:, :4], "b": X[:, 4:], "label": Y}] * 3), ["loss", *scores]
    )
    assert np.allclose(scored, held, rtol=1e-12)
    assert ms.predict(members, data.test).shape == (3, 53, 3)
    assert ms.confusion(members, data).counts.sum() == 3 * 53


def test_a_stream_stays_where_it_was_opened():
    data = ms.data.stream(shuffled(), shuffled())
    for part in (data.train, data.validation.inputs):
        with pytest.raises(ModelspaceError, match="read where it was opened: give runner='local'"):
            pickle.dumps(part)


def test_rows_are_read_by_any_index():
    part = ms.data.stream(shuffled(), DataLoader(TensorDataset(X, Y), 8)).validation
    rows = part.inputs
    assert isinstance(rows, Rows)
    assert torch.equal(part.labels, Y)
    again = torch.randint(53, (40,), generator=G)
    for index in (
        slice(5, 12),
        slice(50, None),
        slice(0, 3),
        17,
        -1,
        again,
        Y == 1,
        [3, 1],
        again.view(8, 5),
        slice(0),
    ):
        assert torch.equal(rows[index], X[index])
    assert torch.equal(rows[3:20, 2:4], X[3:20, 2:4])
    assert rows.to(torch.float32)[:9].dtype == torch.float32
    assert torch.equal(rows * 2, X * 2)  # what is no index reads all


class Odd(Dataset):
    """Samples of which one is another."""

    def __init__(self, at, x=None, y=0):
        self.at, self.x, self.y = at, torch.zeros(6) if x is None else x, y

    def __len__(self):
        return 40

    def __getitem__(self, i):
        if i == self.at and self.x is Odd:
            raise OSError("disk on fire")
        return (self.x, self.y) if i == self.at else (torch.zeros(6), i % 3)


class Vast(Odd):
    def __len__(self):
        return 2**50


def test_what_has_no_room_in_memory_is_to_be_streamed():
    with pytest.raises(ModelspaceError, match=r"items take .* are free: modelspace.data.stream\(loader\)"):
        ms.data.load(DataLoader(Vast(0), 8))


class Drifting(Dataset):
    """Another item at every look, by a stream of its own."""

    def __init__(self):
        self.own = np.random.default_rng(0)

    def __len__(self):
        return 40

    def __getitem__(self, i):
        return torch.from_numpy(self.own.random(6)), i % 3


@pytest.mark.parametrize(
    ("dataset", "settings", "message"),
    [
        (Odd(35, torch.full((6,), np.nan)), {}, r"train': 1 of 8 rows \(3\) of the inputs of batch 4 hold NaN"),
        (Odd(35, Odd), {}, r"batch 4 of epoch 0 can't be read: OSError: disk on fire"),
        (Odd(35, y=7), {}, r"labels out of range: 1 label is ≥ 3 \(largest 7\)"),
        (Odd(39, torch.zeros(5)), {"collate_fn": lambda s: (s[-1][0][None], torch.zeros(1).long())},
         r"one of the inputs of batch 4 is \[5\] torch.float32, of the first batch \[6\] torch.float32"),
        (Endless(30), {}, r"ended after 4 batches in epoch 0, of 9 that it is said to have: give batches="),
        (TensorDataset(X, Y), {"batch_sampler": [[0, 1], [2, 3], [4, 5, 6]]}, "batch 2 has 3 samples, the first 2"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_batch_is_said_when_it_comes(dataset, settings, message):
    settings = settings if "batch_sampler" in settings else {"batch_size": 8, **settings}
    data = ms.data.stream(
        DataLoader(dataset, **settings), batches=9 if isinstance(dataset, Endless) else None
    )
    members = ms.ModelSpace(nn.Linear, in_features=6, out_features=3).in_dtype(X.dtype).sample(seeds=2)
    with pytest.raises(ModelspaceError, match=message):
        ms.fit(members, data, epochs=1, plan=PLAN)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ms.data.stream(TensorDataset(X, Y)), "is a TensorDataset: a torch.utils.data.DataLoader is exp"),
        (lambda: ms.data.stream(shuffled(num_workers=1, persistent_workers=True)), "give persistent_workers=False"),
        (lambda: ms.data.stream(shuffled(Drifting())), "its first batch is another one when it is read again"),
        (lambda: ms.data.stream(DataLoader(Endless(0))), "has no batches"),
        (lambda: ms.data.stream(shuffled(), batches=0), "batches=0: give at least 1"),
        (lambda: ms.data.stream(shuffled(), (X[:, :2], Y)), "the validation split is .2. torch.float64, of the t"),
        (lambda: ms.data.load(DataLoader(Endless(9))), r"its end unknown: modelspace.data.stream\(loader"),
        (lambda: ms.evaluate(SPACE.sample(seeds=1), ms.data.stream(shuffled()), split="train"), "is a stream,"),
    ],
)  # fmt: skip
def test_what_is_no_stream_is_one_line(make, message):
    with pytest.raises(ModelspaceError, match=message):
        make()


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        ({"fold": [0, 1]}, {}, "column fold: batches are a loader's own here"),
        ({"samples": [9], "bootstrap": [0, 1]}, {}, "column samples, column bootstrap: batches are"),
        ({"data_seed": [0, 1], "label_noise": [0.1]}, {}, "column data_seed, column label_noise"),
        ({"batch_size": [4, 8]}, {}, "column batch_size"),
        (
            {},
            {"batch_size": 4, "keep_last": True, "accumulate": 2},
            r"batch_size=, accumulate=, keep_last=: .*\(8\)",
        ),
    ],
)
def test_what_takes_samples_at_random_is_refused(columns, settings, message):
    with pytest.raises(ModelspaceError, match=message):
        fit(ms.data.stream(shuffled()), SPACE.sample(seeds=2, lr=[0.05], **columns), **settings)


def test_verify_and_explore_take_a_stream(tmp_path):
    loader = shuffled()
    data = ms.data.stream(loader, loader, loader)
    assert ms.verify(SPACE, data, members=2, steps=2, compile=False).equivalent
    found = ms.explore(SPACE, data, seeds=2, fresh_seeds=2, epochs=1, columns={"lr": [0.1]}, ground=False)
    assert len(found.test) == 2


FLAT = """
import re, sys, torch, modelspace as ms
from torch import nn
from torch.utils.data import DataLoader, Dataset

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

class Made(Dataset):
    def __init__(self, count): self.count = count
    def __len__(self): return self.count
    def __getitem__(self, i): return torch.full((512, 2048), i % 7 / 7), torch.arange(512) % 2

def net():
    return nn.Sequential(nn.Linear(2048, 2), nn.Tanh())

plan = {"lowering": "vmap", "compile": False, "threads": 1, "shard": 2}
def fitted(count):
    loader = DataLoader(Made(count), batch_size=None)
    data = ms.data.stream(loader, loader)
    run = ms.fit(ms.ModelSpace(net).sample(seeds=2), data, epochs=1, plan=plan)
    ms.evaluate(run.population, data, split="validation")

fitted(2)
before = anonymous()
fitted(int(sys.argv[1]))
print(anonymous() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_flat():
    """192 MiB of samples pass by, five times in all; batches of 4 MiB are held."""
    words = [sys.executable, "-c", FLAT, str(48)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(re.findall(r"[-\d.]+", done.stdout)[-1]) < 64
