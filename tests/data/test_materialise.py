import numpy as np
import pytest
import torch

import modelspace.progress
from modelspace.data import load
from modelspace.errors import ModelspaceError


class Squares:
    """Map-style by its methods alone; ``item`` makes each one."""

    def __init__(self, item, count=30):
        self.item, self.count, self.read = item, count, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.read.append(index)
        return self.item(index)


def test_every_item_is_read_once_and_in_order():
    source = Squares(lambda i: (torch.full((2, 2), float(i)), i % 3))
    data = load(source)
    assert source.read == list(range(30))
    assert sum(len(split) for split in data.splits.values()) == 30
    assert data.input_shape == (2, 2)
    assert data.classes == 3


def test_scalars_and_regression():
    data = load(Squares(lambda i: (float(i), np.float64(i * i))))
    assert data.input_shape == ()
    assert data.classes is None
    assert torch.equal(data.train.labels, data.train.inputs**2)
    assert data.train.labels.dtype == data.train.inputs.dtype == torch.float32


def fails_at(index):
    def item(i):
        if i == index:
            raise OSError("disk on fire")
        return torch.zeros(2), 0

    return item


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (lambda i: torch.zeros(2), r"data 'Squares': item 0 is a Tensor: expected \(input, label\)"),
        (lambda i: (1.0, 2, 3), "item 0 is a tuple of 3: expected"),
        (lambda i: {"x": 1.0, "y": 0}, "item 0 is a dict: expected"),
        (lambda i: ("text", 0), "the input of item 0 is a str: expected a tensor, a NumPy array or a number"),
        (lambda i: (1.0, None), "the label of item 0 is a NoneType"),
        (
            lambda i: (torch.zeros(2 + (i == 7)), 0),
            r"the input of item 7 is \[3\] torch\.float32, that of item 0 \[2\] torch\.float32",
        ),
        (
            lambda i: (torch.zeros(2), 0 if i < 5 else 0.5),
            r"the label of item 5 is \[\] torch\.float32, that of item 0 \[\] torch\.int64",
        ),
        (fails_at(4), "item 4 can't be read: OSError: disk on fire"),
    ],
)
def test_items_that_are_no_pairs_or_not_alike(item, message):
    with pytest.raises(ModelspaceError, match=message):
        load(Squares(item))


def test_no_items():
    with pytest.raises(ModelspaceError, match="data 'Squares' has no items"):
        load(Squares(lambda i: (1.0, 0), count=0))


def test_a_long_read_is_shown_on_standard_error(monkeypatch, capsys):
    source = Squares(lambda i: (1.0, 0))
    load(source)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(modelspace.progress, "_SILENT_SECONDS", 0.0)
    monkeypatch.setattr(modelspace.progress, "_LINE_SECONDS", 0.0)
    load(source)
    out, err = capsys.readouterr()
    assert out == ""
    assert "reading 30 items of Squares" in err
