import numpy as np
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from modelspace.data import Data, load, of_splits
from modelspace.errors import ModelspaceError

INPUTS = torch.arange(60.0).view(20, 3)
LABELS = torch.arange(20) % 4


class Items(Dataset):
    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(INPUTS, LABELS, strict=True)


def same(left, right):
    return all(
        torch.equal(getattr(a, kind), getattr(b, kind)) and getattr(a, kind).dtype == getattr(b, kind).dtype
        for a, b in zip(left.splits.values(), right.splits.values(), strict=True)
        for kind in ("inputs", "labels")
    )


SOURCES = {
    "list": [INPUTS, LABELS],
    "arrays": (INPUTS.numpy(), LABELS.numpy()),
    "float64 arrays": (INPUTS.numpy().astype(np.float64), LABELS.numpy().astype(np.int32)),
    "big-endian, read backwards": (INPUTS.numpy().astype(">f8")[::-1][::-1], LABELS.numpy().astype(">i4")),
    "TensorDataset": TensorDataset(INPUTS, LABELS),
    "data set of tensors": Items(*zip(INPUTS, LABELS, strict=True)),
    "data set of arrays and ints": Items(*zip(INPUTS.double().numpy(), LABELS.tolist(), strict=True)),
    "subset": Subset(TensorDataset(INPUTS.repeat(2, 1), LABELS.repeat(2)), range(20)),
    "loader": DataLoader(TensorDataset(INPUTS, LABELS), batch_size=7, drop_last=True),
    "shuffling loader": DataLoader(Items(*zip(INPUTS, LABELS, strict=True)), batch_size=7, shuffle=True),
    "unbatched loader": DataLoader(TensorDataset(INPUTS, LABELS), batch_size=None),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_every_source_gives_the_same_data(source):
    assert same(load(source, seed=5), load((INPUTS, LABELS), seed=5))


def test_rows_stay_with_their_labels():
    data = load((INPUTS, LABELS))
    for split in data.splits.values():
        assert torch.equal((split.inputs[:, 0] / 3).long() % 4, split.labels)


def test_data_is_returned_as_it_is():
    data = load((INPUTS, LABELS))
    assert load(data) is data
    renamed = load(data, name="other")
    assert renamed.name == "other"
    assert renamed.train is data.train


def test_names():
    assert load((INPUTS, LABELS)).name == "data"
    assert load(Items(*zip(INPUTS, LABELS, strict=True))).name == "Items"
    assert load((INPUTS, LABELS), name="mine").name == "mine"
    assert load("digits", name="mine").name == "mine"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.zeros((8, 2)), torch.float32),
        (np.zeros((8, 2), np.float32), torch.float32),
        (np.zeros((8, 2), np.int32), torch.int32),
        (torch.zeros(8, 2, dtype=torch.float64), torch.float64),
        (torch.zeros(8, 2, dtype=torch.bfloat16), torch.bfloat16),
        (torch.zeros(8, 2, dtype=torch.uint8), torch.uint8),
    ],
)
def test_dtypes_of_inputs(given, expected):
    assert load((given, torch.zeros(8, dtype=torch.int64))).train.inputs.dtype == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.zeros(8, np.uint8), torch.int64),
        (torch.zeros(8, dtype=torch.bool), torch.int64),
        (torch.zeros(8, dtype=torch.float64), torch.float32),
        (np.zeros((8, 3)), torch.float32),
    ],
)
def test_dtypes_of_labels(given, expected):
    assert load((torch.zeros(8, 2), given)).train.labels.dtype == expected


def test_the_default_dtype_is_asked():
    torch.set_default_dtype(torch.float64)
    try:
        data = load((np.zeros((8, 2)), np.zeros(8)))
    finally:
        torch.set_default_dtype(torch.float32)
    assert data.train.inputs.dtype == data.train.labels.dtype == torch.float64


def test_inputs_leave_autograd_and_the_callers_memory():
    parameter = torch.ones(8, 2, requires_grad=True)
    assert not load((parameter, LABELS[:8])).train.inputs.requires_grad
    array = np.ones((8, 2), np.float32)
    data = of_splits(*[(array, np.zeros(8, np.int64))] * 3)
    array[:] = 5
    assert (data.train.inputs == 1).all()


def test_splits_given_ready():
    data = of_splits(
        (INPUTS[:10], LABELS[:10]), (INPUTS[10:15], LABELS[10:15]), (INPUTS[15:], LABELS[15:]), name="r"
    )
    assert torch.equal(data.train.inputs, INPUTS[:10])
    assert torch.equal(data.validation.labels, LABELS[10:15])
    assert len(data.test) == 5
    assert data.name == "r"
    with pytest.raises(ModelspaceError, match="labels of the test split are none, of the train split one"):
        of_splits((INPUTS, LABELS), (INPUTS, LABELS), INPUTS)
    with pytest.raises(ModelspaceError, match=r"the test split has 20 inputs \[20, 3\] but 3 labels"):
        of_splits((INPUTS, LABELS), (INPUTS, LABELS), (INPUTS, LABELS[:3]))


def test_global_streams_are_left_alone():
    state = torch.get_rng_state()
    load(SOURCES["shuffling loader"])
    assert torch.equal(state, torch.get_rng_state())


def collate(batch):
    return batch[0][0], {}["x"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (["a", INPUTS], r"a list of 2 \(str, Tensor\): expected \(inputs, labels\)"),
        ([(INPUTS, LABELS)] * 3, r"a list of 3 \(tuple, tuple, tuple\).*modelspace\.data\.of_splits"),
        ((INPUTS.tolist(), LABELS.tolist()), r"a tuple of 2 \(list, list\)"),
        ([(1.0, 2)] * 9, r"\(tuple, tuple, tuple, tuple, …\)"),
        ({"inputs": "x"}, r"is a dict: expected .*a \.npz file or file\.py:function"),
        (None, "is a NoneType"),
        ((torch.tensor(1.0), LABELS), "inputs of the data is one number: the first dimension counts samples"),
        ((INPUTS[:0], LABELS[:0]), "it has no samples"),
        ((np.array(["a", "b"]), LABELS[:2]), "inputs is an array of <U1: expected numbers"),
        ((np.array([None, {}]), LABELS[:2]), "inputs is an array of object: expected numbers"),
        (Stream(), "data 'Stream' is iterable-style"),
        (DataLoader(Stream()), "data 'Stream' is iterable-style"),
        (
            DataLoader(TensorDataset(INPUTS, LABELS), sampler=SubsetRandomSampler([1, 2])),
            r"the DataLoader has its own sampler \(SubsetRandomSampler\), which would be ignored",
        ),
        (
            DataLoader(TensorDataset(INPUTS, LABELS), sampler=WeightedRandomSampler([1.0] * 20, 20)),
            r"sampler \(WeightedRandomSampler\)",
        ),
        (
            DataLoader(
                TensorDataset(INPUTS, LABELS), sampler=RandomSampler(INPUTS, replacement=True, num_samples=99)
            ),
            r"sampler \(RandomSampler\)",
        ),
        (
            DataLoader(TensorDataset(INPUTS, LABELS), batch_sampler=[[0, 1], [2]]),
            r"own batch sampler \(list\)",
        ),
        (
            DataLoader(TensorDataset(INPUTS, LABELS), collate_fn=collate),
            "collate function fails on all 20 items: KeyError: 'x'",
        ),
    ],
)
def test_sources_that_are_none(source, message):
    with pytest.raises(ModelspaceError, match=message):
        load(source)


def test_bad_rows_are_the_callers_own():
    inputs = INPUTS.clone()
    inputs[[2, 11]] = float("nan")
    with pytest.raises(ModelspaceError, match=r"2 of 20 rows \(2, 11\) of the inputs of the data hold NaN"):
        load((inputs, LABELS))


def written(tmp_path, text):
    path = tmp_path / "made.py"
    path.write_text("import torch\nfrom torch.utils.data import DataLoader, TensorDataset\n" + text)
    return path


@pytest.mark.parametrize(
    "result",
    [
        "(x, y)",
        "TensorDataset(x, y)",
        "DataLoader(TensorDataset(x, y), shuffle=True)",
        "__import__('modelspace').data.load((x, y), seed=5)",
    ],
)
def test_a_function_in_a_file(tmp_path, result):
    path = written(
        tmp_path,
        "import modelspace.data\n"
        f"def make():\n    x, y = torch.arange(60.).view(20, 3), torch.arange(20) % 4\n    return {result}\n",
    )
    assert same(load(f"{path}:make", seed=5), load((INPUTS, LABELS), seed=5))


def test_the_function_gets_the_seed_if_it_asks(tmp_path):
    path = written(
        tmp_path,
        "def make(samples=8, seed=0):\n"
        "    return torch.full((samples, 1), float(seed)), torch.zeros(samples)\n",
    )
    data = load(f"{path}:make", seed=31)
    assert (data.train.inputs == 31).all()
    assert data.name == f"{path}:make"


def test_an_object_that_is_no_function_is_the_source(tmp_path):
    path = written(tmp_path, "pair = torch.zeros(10, 2), torch.zeros(10)\n")
    assert isinstance(load(f"{path}:pair"), Data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "def make(samples): pass\n",
            r"make' can't be called without arguments \(missing a required argument: 's",
        ),
        ("def make(): return 1 / 0\n", "make' fails when it runs: ZeroDivisionError: division by zero"),
        ("def make(): return 'digits'\n", "is a str: expected a built-in name"),
        ("def made(): pass\n", "unknown name in .*made.py 'make': did you mean 'made'"),
    ],
)
def test_functions_that_give_no_data(tmp_path, text, message):
    with pytest.raises(ModelspaceError, match=message):
        load(f"{written(tmp_path, text)}:make")
