import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

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


def test_every_item_is_read_in_order_and_some_again():
    source = Squares(lambda i: (torch.full((2, 2), float(i)), i % 3))
    data = load(source)
    assert source.read[:30] == list(range(30))
    assert source.read[30:] == list(range(30))
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
        (
            lambda i: {"x": 1.0, "label": 0} if i < 3 else (1.0, 0),
            "item 3 is input, label, item 0 input 'x', label",
        ),
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


def own_generator():
    stream = np.random.default_rng(0)
    return lambda i: (stream.random(3), i % 3)


def now_and_then(i):
    """Flipped once in twenty readings: the first items read again are most likely the same."""
    value = torch.full((3,), float(i + 1))
    return (-value if torch.rand(()) < 0.05 else value), i % 3


RANDOM = {
    "torch": lambda i: (torch.randn(3), i % 3),
    "NumPy": lambda i: (np.random.rand(3), i % 3),  # noqa: NPY002
    "Python": lambda i: (random.random(), i % 3),
    "a generator of its own": own_generator(),
    "now and then": now_and_then,
    "labels": lambda i: (torch.full((3,), float(i)), int(torch.randint(1000, ()))),
}


@pytest.mark.parametrize("kind", RANDOM)
@pytest.mark.parametrize(
    "wrap", [lambda d: d, DataLoader, lambda d: Subset(d, range(300))], ids=["", "loader", "subset"]
)
def test_items_drawn_at_random_are_refused(kind, wrap):
    torch.manual_seed(0)
    part = "label" if kind == "labels" else "input"
    with pytest.raises(
        ModelspaceError, match=rf"the {part} of item \d+ is another one when it is read again: .*augment"
    ):
        load(wrap(Squares(RANDOM[kind], count=600)))


def test_drawing_what_is_not_used_and_gaps_are_all_right():
    def item(i):
        torch.rand(2), random.random(), np.random.rand()  # noqa: NPY002
        return torch.full((3,), float(i)), i % 3

    torch.manual_seed(0)
    data = load(Squares(item))
    after = torch.rand(())
    torch.manual_seed(0)
    for _ in range(30):
        torch.rand(2)
    assert after == torch.rand(()), "reading again leaves the streams where one reading does"
    assert len(data.train) == 18
    with pytest.raises(ModelspaceError, match="hold NaN or Inf"):
        load(Squares(lambda i: (float("nan"), 0)))
