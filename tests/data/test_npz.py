import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from modelspace.data import load, whole
from modelspace.errors import ModelspaceError

INPUTS = np.arange(60, dtype=np.float32).reshape(20, 3)
LABELS = np.arange(20) % 4


class Bomb:
    """What a pickle can do: run a call of its author's choice."""

    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("keys", [("inputs", "labels"), ("x", "y"), ("X", "y"), ("X", "Y")])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_round_trip(tmp_path, keys, save):
    path = tmp_path / "mine.npz"
    save(path, **dict(zip(keys, (INPUTS, LABELS), strict=True)))
    expected = load((INPUTS, LABELS), seed=3)
    for source in (path, str(path)):
        data = load(source, seed=3)
        assert data.name == "mine"
        for found, wanted in zip(data.splits.values(), expected.splits.values(), strict=True):
            assert torch.equal(found.inputs, wanted.inputs)
            assert torch.equal(found.labels, wanted.labels)


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_splits_are_kept(tmp_path, validation):
    path = tmp_path / "ready.npz"
    bounds = {"train": slice(0, 8), validation: slice(8, 14), "test": slice(14, 20)}
    arrays = {f"x_{part}": INPUTS[rows] for part, rows in bounds.items()}
    np.savez(path, **arrays, **{f"y_{part}": LABELS[rows] for part, rows in bounds.items()})
    data = load(path)
    for split, rows in zip(data.splits.values(), bounds.values(), strict=True):
        np.testing.assert_array_equal(split.inputs.numpy(), INPUTS[rows])
        np.testing.assert_array_equal(split.labels.numpy(), LABELS[rows])


def test_a_missing_split_is_cut_out_of_train(tmp_path):
    # As Keras's mnist.npz: train and test only.
    path = tmp_path / "keras.npz"
    np.savez(path, x_train=INPUTS[:16], y_train=LABELS[:16], x_test=INPUTS[16:], y_test=LABELS[16:])
    data = load(path, splits=(0.6, 0.2, 0.2))
    assert [len(split) for split in data.splits.values()] == [12, 4, 4]
    np.testing.assert_array_equal(data.test.inputs.numpy(), INPUTS[16:])
    rest = torch.cat([data.train.inputs, data.validation.inputs])[:, 0]
    np.testing.assert_array_equal(rest.sort().values.numpy(), INPUTS[:16, 0])


def test_problems_name_the_split_of_the_file(tmp_path):
    path = tmp_path / "bad.npz"
    inputs = INPUTS.copy()
    inputs[2] = np.inf
    np.savez(path, x_train=INPUTS, y_train=LABELS, x_test=inputs, y_test=LABELS)
    with pytest.raises(
        ModelspaceError, match=r"1 of 20 rows \(2\) of the inputs of the test split hold NaN or Inf"
    ):
        load(path)


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "pickled.npz"
    bombs = np.array([Bomb()] * 4, dtype=object)
    np.savez(path, x=bombs, y=np.zeros(4))
    with pytest.raises(
        ModelspaceError, match="array 'x' holds Python objects, which only unpickling could read"
    ):
        load(path)
    # An array that isn't asked for isn't read.
    np.savez(path, x=INPUTS, y=LABELS, extra=bombs)
    load(path)
    assert not Path("exploded").exists()
    np.load(path, allow_pickle=True)["extra"]
    assert Path("exploded").exists()


def test_files_that_are_none(tmp_path):
    with pytest.raises(ModelspaceError, match=r"no file 'absent\.npz' \(looked in "):
        load("absent.npz")
    text = tmp_path / "text.npz"
    text.write_text("x,y\n1,2\n")
    with pytest.raises(ModelspaceError, match=r"text\.npz' is not a \.npz file: write one with numpy\.savez"):
        load(text)
    single = tmp_path / "single.npy"
    np.save(single, INPUTS)
    with pytest.raises(ModelspaceError, match=r"single\.npy' is not a \.npz file"):
        load(single)


def test_missing_arrays_are_told_by_what_is_there(tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, images=INPUTS, y=LABELS)
    with pytest.raises(
        ModelspaceError, match=r"other\.npz' holds images, y: expected inputs and labels, or x and y"
    ):
        load(path)
    np.savez(path)
    with pytest.raises(ModelspaceError, match="holds nothing"):
        load(path)


def test_a_damaged_file(tmp_path):
    path = tmp_path / "damaged.npz"
    np.savez(path, x=INPUTS, y=LABELS)
    content = bytearray(path.read_bytes())
    start = content.index(INPUTS.tobytes())
    content[start + 40 : start + 60] = b"\xff" * 20
    path.write_bytes(content)
    with pytest.raises(ModelspaceError, match="array 'x' is damaged: Bad CRC-32"):
        load(path)


def npy(shape, content=b""):
    """A file of one array, whose header claims a shape."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue() + content


def test_a_file_that_unpacks_to_gigabytes_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", lambda *_: pytest.fail("it was unpacked"))
    monkeypatch.setattr("modelspace.data.npz._LARGE", 2**20)
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("y.npy", npy((1,), b"0000"))
        with archive.open("x.npy", "w", force_zip64=True) as stream:
            stream.write(npy((2**23,), bytes(2**25)))
    with pytest.raises(ModelspaceError, match=r"bytes and unpacks to 33,5\d\d,\d+: .*numpy\.savez"):
        load(path)


def test_an_array_that_claims_more_than_there_is_is_damaged(tmp_path):
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as archive:
        for name in ("x", "y"):
            archive.writestr(f"{name}.npy", npy((10**13,), b"0" * 100))
    with pytest.raises(ModelspaceError, match=r"'x\.npy' is damaged: it claims 40,000,000,000,000 bytes"):
        load(tmp_path / "lie.npz")


def test_samples_that_are_predicted_on_keep_their_order(tmp_path):
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    np.savez(tmp_path / "new.npz", x=x)
    found = whole(str(tmp_path / "new.npz"))
    assert found.inputs.tolist() == x.tolist()
    assert found.labels is None
    np.savez(tmp_path / "both.npz", inputs=x, labels=np.arange(6))
    assert whole(tmp_path / "both.npz").labels.tolist() == list(range(6))
    np.savez(tmp_path / "split.npz", x_train=x)
    with pytest.raises(ModelspaceError, match="holds x_train: expected inputs, or x"):
        whole(tmp_path / "split.npz")
    with pytest.raises(ModelspaceError, match="no file"):
        whole(tmp_path / "none.npz")


def test_a_table_that_is_predicted_on_is_encoded_as_the_one_fitted_on():
    frame = pd.DataFrame({"size": np.arange(10.0), "city": list("ababababab"), "price": np.arange(10.0)})
    data = load(frame, target="price")
    new = frame.iloc[[3, 1]].drop(columns="price")
    found = whole(new, like=data).inputs
    assert torch.equal(found, data.encoder(new))
    assert found[0, 0] > found[1, 0]
    assert len(whole("digits")) == 359
    with pytest.raises(ModelspaceError, match="encoded as the one that was fitted on"):
        whole(new)
