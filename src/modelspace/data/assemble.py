"""Data out of tensors: to be split, split already, or split in part."""

from collections.abc import Iterable
from typing import Any

from jaxtyping import Int64
from torch import Tensor

from modelspace.data.check import check_data, pair_problems, raise_problems
from modelspace.data.convert import tensor_pair
from modelspace.data.dataset import Data, Split
from modelspace.data.splits import check_fractions, split_indices
from modelspace.errors import ModelspaceError

_NAMES = ("train", "validation", "test")
# Inputs and labels, perhaps not yet known to have the same number of rows.
_Pair = tuple[Tensor, Tensor]


def of_splits(train: Any, validation: Any, test: Any, *, name: str = "data") -> Data:
    """Data that is split already.

    Args:
        train: ``(inputs, labels)``, tensors or NumPy arrays, ``[N, *sample]`` and ``[N, …]``.
        validation: The same for choosing hyper-parameters.
        test: The same for reporting.
        name: What reports call it.

    Returns:
        The checked data; dtypes as ``modelspace.data.load`` describes.

    Raises:
        ModelspaceError: a part is no pair of arrays, or ``modelspace.data.check_data`` objects.

    >>> import torch
    >>> part = torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])
    >>> of_splits(part, part, part, name="zeros")
    Data('zeros': 4 train, 4 validation, 4 test; inputs 2 float32, 2 classes)
    """
    given = {"train": train, "validation": validation, "test": test}
    pairs = {part: _pair_of(pair, f"{name}, {part}") for part, pair in given.items()}
    # Before the records are made: a record whose rows don't match should never exist.
    raise_problems(
        name, [text for part, pair in pairs.items() for text in pair_problems(*pair, f"the {part} split")]
    )
    data = Data(name, _split_of(pairs["train"]), _split_of(pairs["validation"]), _split_of(pairs["test"]))
    check_data(data)
    return data


def of_arrays(inputs: Any, labels: Any, *, splits: Iterable[float], seed: int, name: str) -> Data:
    """Data out of all its inputs and labels, split at random (``modelspace.data.splits``)."""
    return carve({"train": (inputs, labels)}, splits=splits, seed=seed, name=name)


def carve(parts: dict[str, tuple[Any, Any]], *, splits: Iterable[float], seed: int, name: str) -> Data:
    """Data of which some splits are given, the others to be cut out of ``train``.

    A missing split gets its fraction of what train and the missing splits have together. Problems are
    reported by the rows of what was given, which are the caller's own, not by those of the splits.
    """
    fractions = check_fractions(splits)
    pairs = {part: tensor_pair(*pair, name) for part, pair in parts.items()}
    problems: list[str] = []
    for part, pair in pairs.items():
        problems += pair_problems(*pair, "the data" if len(pairs) == 1 else f"the {part} split")
    if not len(pairs["train"][0]):
        problems.append("it has no samples")
    raise_problems(name, problems)

    missing = [part not in pairs for part in _NAMES]
    # Splits that all are given keep their rows in the order given.
    cut = [any(missing), *missing[1:]]
    whole = fractions[0] + sum(fraction for fraction, lacks in zip(fractions, missing, strict=True) if lacks)
    shares = [fraction / whole if is_cut else 0.0 for fraction, is_cut in zip(fractions, cut, strict=True)]
    rows = split_indices(pairs["train"][1], shares, seed) if any(missing) else ()
    train, validation, test = (
        _split_of(_take(pairs["train"], rows[index]) if cut[index] else pairs[part])
        for index, part in enumerate(_NAMES)
    )
    data = Data(name, train, validation, test)
    check_data(data)
    return data


def _pair_of(pair: Any, where: str) -> _Pair:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise ModelspaceError(f"data '{where}' is a {type(pair).__name__}: expected (inputs, labels)")
    inputs, labels = pair
    return tensor_pair(inputs, labels, where)


def _split_of(pair: _Pair) -> Split:
    inputs, labels = pair
    return Split(inputs, labels)


def _take(pair: _Pair, rows: Int64[Tensor, "row"]) -> _Pair:
    return pair[0][rows.to(pair[0].device)], pair[1][rows.to(pair[1].device)]
