"""Data that stay in their files: no copies, whatever reads them, and every fault of a file in one line."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import modelspace as ms
from modelspace.data import is_mapped, load
from modelspace.errors import ModelspaceError
from modelspace.nest import tensors

X, Y = torch.arange(120.0).view(40, 3), torch.arange(40) % 4


def directory(path, **arrays):
    path.mkdir()
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", np.asarray(array))
    return path


def safetensors(path, **arrays):
    save_file({name: torch.as_tensor(array).clone() for name, array in arrays.items()}, path)
    return path


def written(kind, path, **arrays):
    return (directory if kind == "npy" else safetensors)(path / f"d.{kind}", **arrays)


both = pytest.mark.parametrize("kind", ["npy", "safetensors"])


@both
@pytest.mark.parametrize("typed", [Path, str])
def test_split_in_order_without_a_copy(tmp_path, kind, typed):
    data = load(typed(written(kind, tmp_path, x=X, y=Y.int())))
    assert [len(split) for split in data.splits.values()] == [24, 8, 8]
    assert torch.equal(torch.cat([split.inputs for split in data.splits.values()]), X)
    assert torch.equal(torch.cat([split.labels for split in data.splits.values()]), Y)
    assert all(is_mapped(split.inputs) for split in data.splits.values())
    assert len({split.inputs.untyped_storage().data_ptr() for split in data.splits.values()}) == 1
    assert data.notes == ("split in the file's order, so that nothing is copied",)


@both
def test_splits_parts_and_no_labels(tmp_path, kind):
    names = {"inputs_train.ids": X.long(), "inputs_train.mask": X > 50, "labels_train": X, "other": X}
    names |= {name.replace("train", "test"): value[:5] for name, value in names.items() if "train" in name}
    data = load(written(kind, tmp_path, **names), splits=(0.5, 0.5, 0))
    assert [len(split) for split in data.splits.values()] == [20, 20, 5]
    assert {name: part.dtype for name, part in data.train.inputs.items()} == {
        "ids": torch.int64,
        "mask": torch.bool,
    }
    assert all(map(is_mapped, tensors((data.test.inputs, data.test.labels))))
    assert load(directory(tmp_path / "alone", x=X)).train.labels is None


def test_what_is_written_into_a_tensor_does_not_reach_the_file(tmp_path):
    path = directory(tmp_path / "d", x=X, y=Y)
    load(path).train.inputs.fill_(7)
    assert np.array_equal(np.load(path / "x.npy"), X)


def test_a_memmap_stays_mapped_and_a_part_of_one_is_copied(tmp_path):
    np.save(tmp_path / "x.npy", X.numpy())
    whole = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert is_mapped(load((whole, Y)).train.inputs)
    part = load((whole[::2], Y[::2]))
    assert not is_mapped(part.train.inputs)
    assert (
        sorted(torch.cat([split.inputs for split in part.splits.values()])[:, 0].tolist())
        == X[::2, 0].tolist()
    )


def test_fits_as_the_same_data_in_memory(tmp_path):
    rows = {"train": slice(24), "validation": slice(24, 32), "test": slice(32, 40)}
    parts = {part: (X[i] / 120, Y[i]) for part, i in rows.items()}
    names = {f"{kind}_{part}": pair[i] for part, pair in parts.items() for i, kind in enumerate("xy")}
    mapped, held = load(directory(tmp_path / "d", **names), name="d"), ms.data.of_splits(**parts, name="d")
    members = ms.ModelSpace(nn.Linear, in_features=3, out_features=4).sample(seeds=3)
    how = {"epochs": 2, "batch_size": 8, "plan": "vmap"}
    runs = [ms.fit(members, data, out=tmp_path / n, **how) for n, data in (("m", mapped), ("h", held))]
    assert torch.equal(runs[0].population.points, runs[1].population.points)
    ms.fit(members, held, out=tmp_path / "m", **how)  # it is the same run


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"a": X, "b": Y}, "holds a, b: expected inputs and labels"),
        ({"x": X, "x.mask": X, "y": Y}, "beside another that would be the inputs: leave one out"),
        ({"x_test": X, "y_test": Y}, "expected inputs and labels"),
        ({"x": X, "y": Y[:7]}, r"has 40 inputs \[40, 3\] but 7 labels"),
        (
            {"x": X.masked_fill(X == 6, np.nan), "y": Y},
            r"1 of 40 rows \(2\) of the inputs of the data hold NaN",
        ),
        (
            {"x": X, "y": Y.sort().values},
            "its first 24 rows have none of class 3: shuffle the file's rows once",
        ),
    ],
)
@both
def test_what_is_wrong_with_the_tensors_is_said(tmp_path, kind, names, message):
    with pytest.raises(ModelspaceError, match=message):
        load(written(kind, tmp_path, **names))


def test_files_that_are_none(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"no")
    with pytest.raises(ModelspaceError, match=r"a\.safetensors' is damaged, or no \.safetensors file"):
        load(tmp_path / "a.safetensors")
    with pytest.raises(ModelspaceError, match=r"no file 'none\.safetensors'"):
        load("none.safetensors")
    for name, array, message in (
        ("o", np.array([None, {}]), "x.npy' holds Python objects, which only unpickling could read"),
        ("f", np.asfortranarray(X.numpy()), "in Fortran's order: only numbers in C's order"),
        ("b", X.numpy().astype(">f4"), "an array of >f4, in C's order"),
    ):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "x.npy", array, allow_pickle=True)
        with pytest.raises(ModelspaceError, match=message):
            load(tmp_path / name)
    cut = directory(tmp_path / "cut", x=X, y=Y) / "x.npy"
    cut.write_bytes(cut.read_bytes()[:-8])
    with pytest.raises(ModelspaceError, match=r"x\.npy' is damaged"):
        load(tmp_path / "cut")
    with pytest.raises(ModelspaceError, match="is split in its order, not by groups"):
        load(directory(tmp_path / "g", x=X, y=Y), group=range(40))


FLAT = """
import re, sys, torch, modelspace as ms
from torch import nn

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

def net():
    return nn.Sequential(nn.Linear(2048, 2), nn.Tanh())

plan = {"lowering": "vmap", "compile": False, "workers": 1, "threads": 1, "shard": 2}
small = ms.data.load((torch.randn(64, 2048), torch.arange(64) % 2))
ms.fit(ms.ModelSpace(net).sample(seeds=2), small, epochs=1, batch_size=64, plan=plan)
before = anonymous()
data = ms.data.load(sys.argv[1])
run = ms.fit(ms.ModelSpace(net).sample(seeds=2), data, epochs=1, batch_size=512, plan=plan, out=sys.argv[2])
ms.evaluate(run.population, data)
print(anonymous() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_flat(tmp_path):
    """All of 384 MiB are read, by the checks, the hash of the samples, training and scores; none of it is kept."""
    (tmp_path / "d").mkdir()
    rows = 384 * 2**20 // 8192
    x = np.lib.format.open_memmap(tmp_path / "d" / "x.npy", "w+", np.float32, (rows, 2048))
    x[:, 0] = 1
    del x
    np.save(tmp_path / "d" / "y.npy", np.arange(rows) % 2)
    words = [sys.executable, "-c", FLAT, str(tmp_path / "d"), str(tmp_path / "run")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(re.findall(r"[-\d.]+", done.stdout)[-1]) < 128
