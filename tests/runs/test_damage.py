"""Run folders with random damage: the same answer, or said and made again, or one line; never anything else."""

import random
import shutil
import signal
import sqlite3
from collections import Counter
from contextlib import closing, contextmanager

import numpy as np
import pandas as pd
import pytest
from support import plans
from support.runs import altered, assert_same

import modelspace as ms
from modelspace.cli import main, results

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(147, 2)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x):
        return self.norm(self.fc(x.flatten(1)))
"""
CHOICES = {"lowering": "vmap", "shard": 4, "compile": False, "threads": 1, "workers": 1}
WRONG = [
    "NULL",
    "'x'",
    "-1",
    str(2**62),
    "1.5",
    "x'00ff'",
    "''",
    "'../../outside'",
    "'[]'",
    "'{}'",
    "'null'",
    "'1e999'",
]


class Target:
    """A finished run as its folder, what it answers, and how it is asked again."""

    def __init__(self, top):
        (top / "net.py").write_text(NET)
        generator = np.random.default_rng(0)
        inputs = generator.normal(size=(60, 147)).astype(np.float32)
        np.savez(top / "data.npz", inputs=inputs, labels=generator.integers(0, 2, 60))
        self.folder, self.outside = top / "run", top / "outside.safetensors"
        self.outside.write_text("somebody's")
        words = ("--plan", "vmap", "--workers", "1", "--threads", "1", "--shard", "4", "--epochs", "2")
        fit = (
            "fit",
            f"{top}/net.py:Net",
            "--data",
            f"{top}/data.npz",
            "--batch-size",
            "16",
            "--lr",
            "1e-2,1e38",
        )
        assert main([*fit, *words, "--seeds", "4", "--out", str(self.folder)]) == 0
        self.data = ms.data.load(top / "data.npz")
        self.whole = ms.open_run(self.folder, trust=True)
        self.space = self.whole.space
        self.table, self.curves = self.whole.table, self.whole.history
        self.files = sorted(
            path.relative_to(self.folder)
            for path in self.folder.rglob("*")
            if path.name != "report.html" and path.is_file() and path.stat().st_size
        )

    def fitted(self, folder):
        population = self.space.sample(seeds=4, lr=[1e-2, 1e38])
        return plans.fit(population, self.data, epochs=2, batch_size=16, out=folder, **CHOICES)

    def asked(self, folder, capsys, *, foreign=False):
        """Every reader, then the fit again: how each ended, or an assertion fails.

        Args:
            folder: The damaged folder.
            capsys: What is said goes there.
            foreign: Whether the folder says what another, whole run might: then its table may differ.
        """

        def reads():
            run = ms.open_run(folder)
            table, curves = run.table, run.history
            if foreign:
                return
            said = capsys.readouterr().err
            pd.testing.assert_frame_equal(table, self.table)
            for name, values in self.curves.items():
                known = ~np.isnan(curves[name])
                np.testing.assert_array_equal(curves[name][known], values[known])
                assert "damaged" in said or np.array_equal(known, ~np.isnan(values))

        def opens():
            points = ms.load(folder / "points.safetensors", self.space)
            assert points.points.equal(self.whole.population.points)
            assert points.table.equals(self.whole.population.table)

        def sums():
            assert results.read_summary(folder)["members"] == len(self.table)

        def lists():
            assert main(["runs", str(folder.parent)]) == 0

        def fits():
            assert_same(self.fitted(folder), self.whole)

        endings = []
        for ask in (reads, opens, sums, lists, fits):
            capsys.readouterr()
            with patience(60):
                try:
                    ask()
                except ms.ModelspaceError as error:
                    lines = len(str(error).splitlines())
                else:
                    lines = 0
            assert lines <= 1
            if lines:
                endings.append("refused")
                continue
            said = capsys.readouterr().err
            assert "Traceback" not in said
            endings.append("said" if "damaged" in said or "is not what was written" in said else "same")
        assert self.outside.read_text() == "somebody's"
        return endings


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    return Target(tmp_path_factory.mktemp("target"))


@contextmanager
def patience(seconds):
    """Within the block nothing takes longer."""

    def ended(*_):
        raise AssertionError(f"it hung for {seconds} s")

    before = signal.signal(signal.SIGALRM, ended)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def flipped(target, folder, flips, seed, capsys):
    """How the folder answers after one flipped byte, for so many of them in each of its files."""
    chance, counts = random.Random(seed), Counter()
    for file in target.files:
        for _ in range(flips):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(target.folder, folder)
            content = bytearray((folder / file).read_bytes())
            # Small numbers, text and headers stand at the front: half of the flips are there.
            place = chance.randrange(len(content) if chance.random() < 0.5 else min(4096, len(content)))
            content[place] ^= chance.randrange(1, 256)
            (folder / file).write_bytes(content)
            counts.update((file.name[-12:], ending) for ending in target.asked(folder, capsys))
    return counts


def cells(target):
    """Every cell of the catalogue: its table, its row's number and its column."""
    found = []
    with closing(sqlite3.connect(target.folder / "run.sqlite")) as connection:
        for table in ("run", "members", "shards"):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            key = columns[0]
            rows = connection.execute(f"SELECT quote({key}) FROM {table}").fetchall()
            found += [(table, f"{key} = {value}", column) for (value,) in rows for column in columns]
    return found


def mistyped(target, folder, chosen, capsys):
    """How the folder answers after these cells have another value, with and without a fitting seal."""
    counts = Counter()
    for (table, row, column), value, sealed in chosen:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(target.folder, folder)
        try:
            altered(folder, f"UPDATE {table} SET {column} = {value} WHERE {row}", sealed=False)
        except sqlite3.DatabaseError:
            continue  # the table itself forbids it
        if sealed:
            try:
                altered(folder)
            except sqlite3.DatabaseError:
                continue  # what no seal could be given is the case above
        counts.update((table, ending) for ending in target.asked(folder, capsys, foreign=sealed))
    return counts


def test_a_flipped_byte_in_any_file(target, tmp_path, capsys):
    counts = flipped(target, tmp_path / "run", 1, 0, capsys)
    assert counts.total() == 5 * len(target.files)


def test_a_wrong_value_in_the_catalogue(target, tmp_path, capsys):
    chance = random.Random(0)
    chosen = [
        (cell, chance.choice(WRONG), i % 2 == 0) for i, cell in enumerate(chance.sample(cells(target), 8))
    ]
    assert mistyped(target, tmp_path / "run", chosen, capsys).total()


@pytest.mark.slow
def test_200_flipped_bytes_in_every_file(target, tmp_path, capsys):
    counts = flipped(target, tmp_path / "run", 200, 1, capsys)
    with capsys.disabled():
        print_counts(f"200 flips in each of {len(target.files)} files", counts)


@pytest.mark.slow
def test_wrong_values_in_every_cell_of_the_catalogue(target, tmp_path, capsys):
    chance = random.Random(1)
    chosen = [
        (cell, v, sealed)
        for cell in cells(target)
        for v in chance.sample(WRONG, 4)
        for sealed in (False, True)
    ]
    counts = mistyped(target, tmp_path / "run", chosen, capsys)
    with capsys.disabled():
        print_counts(f"{len(chosen)} wrong values", counts)


def print_counts(title, counts):
    names = dict.fromkeys(name for name, _ in counts)
    rows = [
        f"  {name:<14}{'  '.join(f'{n} {e}' for (m, e), n in sorted(counts.items()) if m == name)}"
        for name in names
    ]
    print("\n".join(["", title, *rows]))
