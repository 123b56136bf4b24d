"""Batches of every kind as sources: what is input, what is label, and what is wrong with one, by its path."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pad_sequence
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, Dataset, TensorDataset

import modelspace as ms
from modelspace import nest
from modelspace.data import Split, load, of_splits
from modelspace.errors import ModelspaceError
from modelspace.losses import Objective
from modelspace.nest import named_leaves, spoken, tensors

N = 20
X, Y = torch.arange(3.0 * N).view(N, 3), torch.arange(N) % 4
M = torch.arange(5 * N).view(N, 5) % 3 == 0
Pair = namedtuple("Pair", "x m")


@dataclass
class Batch:
    x: torch.Tensor
    m: torch.Tensor


@dataclass
class Rows(Dataset):
    """A data set although it is a dataclass of tensors."""

    x: torch.Tensor
    y: torch.Tensor

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


class Items:
    def __init__(self, item, count=N):
        self.item, self.count = item, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.item(index)


def pad(items):
    return {"ids": pad_sequence([ids for ids, _ in items], batch_first=True), "labels": Y[: len(items)]}


# A source; the paths of its inputs and of its labels (None without any); what an objective's batch is made of.
SOURCES = {
    "tensor": (X, [""], None, "inputs"),
    "array": (X.double().numpy(), [""], None, "inputs"),
    "tuple of 1": ((X,), ["0"], None, "inputs"),
    "tuple of 3": ((X, M, Y), ["0", "1"], [""], "flat"),
    "tuple of tuples": (((X, {"m": [M, X]}), (Y, {"q": X})), ["0", "1.m.0", "1.m.1"], ["0", "1.q"], "pair"),
    "dict with labels": ({"x": X, "m": M, "labels": Y}, ["x", "m"], [""], "dict:labels"),
    "dict with label": ({"x": X, "label": {"a": Y, "b": M}}, ["x"], ["a", "b"], "dict:label"),
    "dict without": ({"x": X, "m": M}, ["x", "m"], None, "inputs"),
    "ordered dict": (OrderedDict(x=X, m=M), ["x", "m"], None, "inputs"),
    "named tuple": (Pair(X, M), ["x", "m"], None, "inputs"),
    "named tuple and labels": ((Pair(X, M), Y), ["x", "m"], [""], "pair"),
    "dataclass": (Batch(X, M), ["x", "m"], None, "inputs"),
    "dataclass and labels": ((Batch(X, M), Y), ["x", "m"], [""], "pair"),
    "TensorDataset of 1": (TensorDataset(X), ["0"], None, "inputs"),
    "TensorDataset of 2": (TensorDataset(X, Y), [""], [""], "pair"),
    "TensorDataset of 3": (TensorDataset(X, M, Y), ["0", "1"], [""], "flat"),
    "items alone": (Items(lambda i: X[i]), [""], None, "inputs"),
    "items of 3": (Items(lambda i: (X[i], M[i], Y[i])), ["0", "1"], [""], "flat"),
    "items that are dicts": (
        Items(lambda i: {"x": X[i], "m": M[i], "labels": i % 4}),
        ["x", "m"],
        [""],
        "dict:labels",
    ),
    "items that are named tuples": (Items(lambda i: Pair(X[i], M[i])), ["x", "m"], None, "inputs"),
    "items that are dataclasses": (Items(lambda i: Batch(X[i], M[i])), ["x", "m"], None, "inputs"),
    "data set that is a dataclass": (Rows(X, Y), [""], [""], "pair"),
    "loader that pads": (
        DataLoader(Items(lambda i: (torch.arange(1 + i % 5), Y[i])), 7, collate_fn=pad),
        ["ids"],
        [""],
        "dict:labels",
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_input_and_what_is_label(name):
    source, inputs, labels, form = SOURCES[name]
    for data in (load(source), load({"train": source, "test": source})):
        assert [spoken(path) for path, _ in named_leaves(data.train.inputs)] == inputs
        found = None if data.train.labels is None else [spoken(p) for p, _ in named_leaves(data.train.labels)]
        assert found == labels
        assert data.form == form
        assert type(data.train.inputs) is type(data.test.inputs)
        assert sum(map(len, data.splits.values())) in (N, 2 * N)


@pytest.mark.parametrize(
    "name", ["tuple of 3", "dict with label", "dict with labels", "dataclass and labels", "array"]
)
def test_an_objective_s_batch_is_what_the_source_was(name):
    source = SOURCES[name][0]
    split = of_splits(source, source, source).train
    batch = Objective(lambda model, batch: 0, split.form).batch(split.inputs, split.labels)
    assert type(batch) is (torch.Tensor if name == "array" else type(source))
    for (path, value), (there, made) in zip(named_leaves(source), named_leaves(batch), strict=True):
        assert path == there
        assert torch.equal(torch.as_tensor(value).to(made.dtype), made)


def test_a_collate_function_pads_to_the_longest_of_all():
    source = SOURCES["loader that pads"][0]
    assert load(source).train.inputs["ids"].shape[1:] == (5,)
    with pytest.raises(
        ModelspaceError, match=r"the input of item 1 is \[2\] .* item 0 \[1\].*collate_fn pads them"
    ):
        load(source.dataset)


def test_every_kind_of_number_stays():
    integers, masks, waves = torch.arange(N, dtype=torch.int32), M, X.to(torch.complex64)
    data = load(({"i": integers, "m": masks, "w": waves, "n": waves.numpy().astype(np.complex128)}, waves))
    kinds = {name: part.dtype for name, part in data.train.inputs.items()}
    assert kinds == {"i": torch.int32, "m": torch.bool, "w": torch.complex64, "n": torch.complex64}
    assert data.train.labels.dtype == torch.complex64
    assert data.classes is None
    labels = load((X, {"mask": M, "class": integers, "quantity": X.double()})).train.labels
    kinds = {name: part.dtype for name, part in labels.items()}
    assert kinds == {"mask": torch.bool, "class": torch.int64, "quantity": torch.float32}


def test_splits_may_be_of_several_kinds():
    loader = DataLoader(TensorDataset(X[:5], Y[:5]))
    data = load({"train": TensorDataset(X, Y), "validation": Split(X[:3], Y[:3]), "test": loader})
    assert [len(split) for split in data.splits.values()] == [20, 3, 5]
    assert torch.equal(data.train.inputs, X), "a split that is given keeps its order"


def bad(row):
    values = X.clone()
    values[row, 1] = float("nan")
    return values


WRONG = {
    "another length": (
        {"x": X, "m": M[:7], "labels": Y},
        r"parts of several lengths \(inputs 'x' \[20, 3\], inputs 'm' \[7, 5\], labels \[20\]\)",
    ),
    "ragged": (
        {"ids": [torch.ones(3), torch.ones(2)], "labels": Y},
        r"lengths \(inputs 'ids\.0' \[3\], inputs 'ids\.1'",
    ),
    "one number": (
        {"x": X, "t": torch.tensor(1.0)},
        "inputs 't' of the data is one number: the first dimension",
    ),
    "NaN": (({"a": {"b": bad(3)}}, Y), r"1 of 20 rows \(3\) of the inputs 'a\.b' of the data hold NaN"),
    "NaN in labels": ((X, {"q": bad(4)}), r"rows \(4\) of the labels 'q' of the data hold NaN"),
    "complex NaN": ((X, bad(4).to(torch.complex64)), r"rows \(4\) of the labels of the data hold NaN"),
    "text": ({"x": X, "more": {"name": "a"}}, r"inputs 'more\.name' is a str: expected a tensor"),
    "nothing": (Batch(X, None), "inputs 'm' is a NoneType: expected a tensor"),
    "objects": (({"x": np.array([[1], [2, 3]], dtype=object)}, Y[:2]), "inputs 'x' is an array of object"),
    "sparse": (({"x": X.to_sparse()}, Y), r"inputs 'x' is a sparse tensor: .* use \.to_dense\(\)"),
    "empty": ({"x": X[:0], "labels": Y[:0]}, "it has no samples"),
    "no split": ({"train": (X, Y), "test": 5}, "data 'dict, test' is a int: expected"),
    "other parts": (
        {"train": {"x": X, "m": M}, "test": {"x": X}},
        "the inputs of the test split are x, of the train split x, m",
    ),
    "other shape": (
        {"train": ({"x": X, "m": M}, Y), "test": ({"x": X, "m": M[:, :2]}, Y)},
        r"one of the inputs 'm' of the test split is \[2\] torch\.bool, of the train split \[5\]",
    ),
    "other type": (
        {"train": (X, {"q": X}), "test": (X, {"q": Y[:, None].expand(N, 3)})},
        r"one of the labels 'q' of the test split is \[3\] torch\.int64, of the train split \[3\] torch\.float32",
    ),
    "labels in one": (
        {"train": (X, Y), "test": X},
        "labels of the test split are none, of the train split one",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_with_its_path(name):
    source, message = WRONG[name]
    with pytest.raises(ModelspaceError, match=message):
        load(source)


def test_a_loss_that_knows_no_complex_labels_says_so():
    data = load((X, X.to(torch.complex64)))
    population = ms.ModelSpace(torch.nn.Linear(3, 3)).sample(seeds=2)
    with pytest.raises(
        ModelspaceError, match=r"mse_loss received .* labels of dtype torch\.complex64: .*as_real"
    ):
        ms.evaluate(population, data, loss="mse_loss")


def leaf(ids):
    """Some tensor whose rows say which they are."""
    shapes = st.sampled_from([(), (1,), (2, 3)])
    kinds = st.sampled_from([torch.int64, torch.float32, torch.complex64, torch.int32])
    return st.builds(lambda s, k: ids.view(-1, *[1] * len(s)).expand(-1, *s).to(k), shapes, kinds)


def nests(ids):
    parts = leaf(ids)
    return st.recursive(
        parts,
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=3).map(tuple),
            st.dictionaries(st.sampled_from("abc"), inner, min_size=1),
            st.builds(Pair, inner, inner),
            st.builds(Batch, inner, inner),
        ),
        max_leaves=4,
    )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_rows_stay_together(draw):
    """Whatever nests inputs and labels are, and whichever splits are given."""
    count, rest = draw.draw(st.integers(3, 40)), draw.draw(st.integers(1, 9))
    ids, more = torch.arange(count), torch.arange(count, count + rest)
    labels = draw.draw(st.one_of(st.none(), nests(ids)))
    inputs = draw.draw(nests(ids))
    whole = Split(inputs, labels)
    source = {"train": whole}
    if draw.draw(st.booleans()):
        source["test"] = Split(
            *(
                nest.mapped(
                    lambda p: more.view(-1, *[1] * (p.dim() - 1)).expand(-1, *p.shape[1:]).to(p.dtype), each
                )
                for each in (inputs, labels)
            )
        )
    data = load(source, seed=draw.draw(st.integers(0, 5)), splits=(0.5, 0.25, 0.25))
    seen = []
    for split in data.splits.values():
        rows = [
            part.real.flatten(1)[:, 0].long() if part.dim() > 1 else part.real.long()
            for part in tensors((split.inputs, split.labels))
        ]
        assert all(torch.equal(rows[0], other) for other in rows)
        seen += rows[0].tolist()
    assert sorted(seen) == list(range(count + rest * ("test" in source)))
    kinds = [pytree.tree_structure(part.inputs) for part in data.splits.values()]
    assert all(kind == pytree.tree_structure(inputs) for kind in kinds)


def test_a_run_in_a_folder_knows_the_parts_of_its_data(tmp_path):
    """Every part of a nest, its place in it, and the groups make a run what it is."""

    class Two(torch.nn.Linear):
        def forward(self, x, z):
            return super().forward(x + z)

    members = ms.ModelSpace(Two, in_features=3, out_features=4).sample(seeds=1)

    def fitted(**parts):
        data = load({**parts, "labels": Y}, name="d")
        return ms.fit(members, data, epochs=1, batch_size=20, plan="loop", out=tmp_path / "run")

    points = fitted(x=X / 60, z=X / 50).population.points
    assert torch.equal(fitted(x=X / 60, z=X / 50).population.points, points)
    for other in ({"z": X / 60, "x": X / 50}, {"x": X / 60, "z": X / 49}):
        with pytest.raises(ModelspaceError, match="samples"):
            fitted(**other)
