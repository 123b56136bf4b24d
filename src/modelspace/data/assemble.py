"""Data out of tensors: to be split, split already, or split in part."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modelspace.data.check import check_data, raise_problems, split_problems
from modelspace.data.convert import is_nest, split_of
from modelspace.data.dataset import Data, Split, is_class_labels
from modelspace.data.mapped import is_mapped
from modelspace.data.randomness import generator
from modelspace.data.splits import check_fractions, split_indices
from modelspace.errors import ModelspaceError, first_line
from modelspace.nest import (
    LEFT_OUT,
    Nest,
    Shared,
    WeightedLabels,
    described,
    mapped_together,
    take,
    tensors,
    unweighted,
)

_NAMES = ("train", "validation", "test")


def of_splits(train: Any, validation: Any, test: Any, *, name: str = "data") -> Data:
    """Data that is split already.

    Args:
        train: ``(inputs, labels)``, tensors, NumPy arrays or nests of them, ``[N, *sample]`` and ``[N, …]``; or
            another nest, as ``modelspace.data.load`` takes it apart.
        validation: The same for choosing hyper-parameters.
        test: The same for reporting.
        name: What reports call it.

    Returns:
        The checked data; dtypes as ``modelspace.data.load`` describes.

    Raises:
        ModelspaceError: a part is no nest of arrays, or ``modelspace.data.check_data`` objects.

    >>> import torch
    >>> part = torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])
    >>> of_splits(part, part, part, name="zeros")
    Data('zeros': 4 train, 4 validation, 4 test; inputs 2 float32, 2 classes)
    """
    given = {"train": train, "validation": validation, "test": test}
    for part, value in given.items():
        if not isinstance(value, Split) and not is_nest(value):
            raise ModelspaceError(
                f"data '{name}, {part}' is a {type(value).__name__}: expected (inputs, labels); for data "
                'sets, load({"train": …, "test": …})'
            )
    splits = {part: _split_of(value, f"{name}, {part}") for part, value in given.items()}
    # Before the record is made: a record whose rows don't match should never exist.
    raise_problems(
        name, [text for part, split in splits.items() for text in split_problems(split, f"the {part} split")]
    )
    data = Data(name, splits["train"], splits["validation"], splits["test"])
    check_data(data)
    return data


def of_tasks(
    tasks: Iterable[Any],
    *,
    splits: Iterable[float] = (0.8, 0.2, 0.0),
    ordered: bool = False,
    seed: int = 0,
    name: str = "tasks",
) -> Data:
    """Make one data set of many: a series, a patient, a shop, an image each, of unequal lengths.

    A member of a population is trained and scored on the task that its column ``task`` names. The samples stand in
    memory once, one task after the other.

    Args:
        tasks: Each one's samples: ``(inputs, labels)`` or another nest, all of one structure, shape and type.
        splits: Fractions of each task's train (> 0), validation and test; a task keeps at least one sample to train
            on.
        ordered: Cut every task in its order, the last samples for test: of time series. At random where False.
        seed: Of the cut.
        name: What reports call it.

    Returns:
        The data, whose ``tasks`` say whose each sample is.

    Raises:
        ModelspaceError: there are no tasks, one has no samples, or they are not alike.

    >>> import torch
    >>> series = [(torch.rand(n, 8), torch.rand(n, 1)) for n in (20, 35, 50)]
    >>> of_tasks(series, ordered=True, name="shops")
    Data('shops': 3 tasks, 84 train, 21 validation, 0 test; inputs 8 float32, labels 1 float32)
    """
    fractions = check_fractions(splits)
    parts = [_split_of(task, f"{name}, task {i}") for i, task in enumerate(tasks)]
    if not parts:
        raise ModelspaceError(f"data '{name}': there are no tasks")
    for i, part in enumerate(parts):
        raise_problems(
            name, split_problems(part, f"task {i}") or ([] if len(part) else [f"task {i} has no samples"])
        )
    first = parts[0]
    try:
        inputs, labels = (
            mapped_together(lambda *x: torch.cat(x), *(getattr(part, kind) for part in parts))
            for kind in ("inputs", "labels")
        )
        whole = Split(inputs, labels, first.form)
    except (RuntimeError, ValueError) as error:
        raise ModelspaceError(f"data '{name}': its tasks are not alike: {first_line(error)}") from error
    lengths = np.array([len(part) for part in parts])
    rows: dict[str, list[np.ndarray]] = {split: [] for split in _NAMES}
    for i, (start, length) in enumerate(zip(np.cumsum(lengths) - lengths, lengths, strict=True)):
        order = np.arange(length) if ordered else generator(seed, i).permutation(length)
        test = round(fractions[2] * length)
        validation = min(round(fractions[1] * length), length - test - 1)
        ends = length - test - max(validation, 0), length - test
        for split, part in zip(_NAMES, np.split(order, ends), strict=True):
            rows[split].append(start + part)
    index = {split: torch.from_numpy(np.concatenate(found)) for split, found in rows.items()}
    ids = {split: np.repeat(np.arange(len(parts)), [len(x) for x in found]) for split, found in rows.items()}
    data = Data(name, *(whole.take(index[split]) for split in _NAMES), tasks=ids)
    check_data(data)
    return data


def of_label_columns(
    data: Any, *, splits: Iterable[float] = (0.6, 0.2, 0.2), seed: int = 0, name: str = "columns"
) -> Data:
    """Make the columns of the labels tasks: one input, many targets, a network for each target.

    A member of a population is trained and scored on the column that its column ``task`` names. The inputs stand in
    memory once. A sample whose label is missing in a column, NaN or −100, is none of that column's samples.

    Args:
        data: ``(inputs, labels)`` or another nest, or a ``Data``; its labels ``[N, M, …]``, or M parts ``[N, …]``.
        splits: Fractions of train, validation and test, the same samples for all columns; a ``Data`` has its own.
        seed: Of the split.
        name: What reports call it.

    Returns:
        The data, whose ``tasks`` say which column each label is of; a label of column m is ``labels[:, m]``.

    Raises:
        ModelspaceError: there are no columns, they are not alike, or one has no labels to train on.

    >>> import torch
    >>> targets = torch.tensor([[0, 1], [1, -100], [1, 0], [0, 0]])
    >>> of_label_columns((torch.rand(4, 8), targets), splits=(1, 0, 0), name="assays")
    Data('assays': 2 tasks, 7 train, 0 validation, 0 test; inputs 8 float32, 2 classes)
    """
    if not isinstance(data, Data):
        whole = _split_of(data, name)
        numbers = torch.arange(len(whole))[:, None]  # in the labels' place, of which some may be missing
        cut = carve({"train": replace(whole, labels=numbers)}, splits=splits, seed=seed, name=name)
        given = {part: whole.take(split.labels[:, 0]) for part, split in cut.splits.items()}
    else:
        given = data.splits
    made, ids = {}, {}
    for part, split in given.items():
        columns = _columns(split.labels, name)
        kept = [_is_there(column).nonzero()[:, 0] for column in columns]
        if part == "train" and not all(map(len, kept)):
            lost = next(i for i, rows in enumerate(kept) if not len(rows))
            raise ModelspaceError(f"data '{name}': column {lost} of the labels has none that is trained on")
        labels = torch.cat([column[rows] for column, rows in zip(columns, kept, strict=True)])
        kind = torch.int32 if len(split) < 2**31 else torch.int64
        rows = torch.cat(kept).to(kind)
        raise_problems(name, split_problems(Split(rows, labels), f"the {part} split"))
        made[part] = Split(Shared(rows, split.inputs), labels, split.form)
        ids[part] = np.repeat(np.arange(len(columns)), [len(x) for x in kept])
    return Data(name, *(made[part] for part in _NAMES), tasks=ids)


def check_divisible(data: Data) -> None:
    """Refuse data that ``resplit`` can't divide anew.

    Raises:
        ModelspaceError: they are tasks already, or not in memory.
    """
    whole = all(split.whole for split in data.splits.values() if len(split))
    if data.tasks or not whole or any(map(is_mapped, tensors(data.train.inputs))):
        why = "are several tasks" if data.tasks else "are not held in memory"
        raise ModelspaceError(f"the samples of data '{data.name}' {why}: they can't be divided anew")


def resplit(data: Data, seeds: Iterable[int]) -> Data:
    """Divide all samples of a data set anew, once for each seed: each division is a task.

    A member of a population is trained and scored on the division that its column ``task`` names, so that the luck
    of one division is a source of randomness like any other. Splits keep their sizes, classes their shares, groups
    stay together. The inputs stand in memory once.

    Args:
        data: In memory, of one task.
        seeds: Of the divisions.

    Returns:
        The data, whose ``tasks`` say which division each sample is of.

    Raises:
        ModelspaceError: the data are tasks already, or not in memory.

    >>> from modelspace.data import digits
    >>> resplit(digits(), range(8))
    Data('digits': 8 tasks, 8624 train, 2880 validation, 2872 test; inputs 1x8x8 float32, 10 classes)
    """
    check_divisible(data)
    parts = [split for split in data.splits.values() if len(split)]
    join = (lambda *x: torch.cat(x),)
    inputs = mapped_together(*join, *(split.inputs for split in parts))
    labels = None
    if data.train.labels is not None:
        labels = mapped_together(*join, *(split.labels for split in parts))
    own = [split.groups for split in parts if split.groups is not None]
    groups = torch.cat(own) if len(own) == len(parts) else None
    plain, count = unweighted(labels), sum(map(len, parts))
    strata = plain if isinstance(plain, Tensor) else torch.zeros(count)
    shares = [len(split) / count for split in data.splits.values()]
    shares[0] += 1 - sum(shares)
    rows = [split_indices(strata, shares, seed, groups) for seed in seeds]
    kind = torch.int32 if count < 2**31 else torch.int64
    made, ids = {}, {}
    for i, part in enumerate(_NAMES):
        some = torch.cat([division[i] for division in rows])
        own_labels = None if labels is None else take(labels, some)
        made[part] = Split(Shared(some.to(kind), inputs), own_labels, data.train.form)
        ids[part] = np.repeat(np.arange(len(rows)), [len(division[i]) for division in rows])
    return replace(data, **made, tasks=ids)


def _columns(labels: Nest, name: str) -> list[Tensor]:
    """The columns of a matrix, or the parts of a nest."""
    columns = [*labels.unbind(1)] if isinstance(labels, Tensor) and labels.ndim > 1 else tensors(labels)
    if isinstance(labels, WeightedLabels) or not columns or (isinstance(labels, Tensor) and labels.ndim == 1):
        said = "no labels" if labels is None else described(labels)
        raise ModelspaceError(
            f"data '{name}': the columns of its labels are tasks, and there are {said}: give [N, M]"
        )
    if len({(column.shape, column.dtype) for column in columns}) > 1:
        raise ModelspaceError(f"data '{name}': the columns of its labels are not alike: {described(labels)}")
    return columns


def _is_there(column: Tensor) -> Tensor:
    """Which labels are not missing; of several numbers a sample, one of which is not."""
    there = ~column.isnan() if column.is_floating_point() else column != LEFT_OUT
    return there if there.ndim == 1 else there.flatten(1).any(1)


def _split_of(source: Any, name: str) -> Split:
    return split_of(source, f"data '{name}': inputs", f"data '{name}': labels")


def carve(
    parts: Mapping[str, Any],
    *,
    splits: Iterable[float],
    seed: int,
    name: str,
    groups: Any = None,
    weights: Any = None,
) -> Data:
    """Data of which some splits are given, the others to be cut out of ``train``.

    A missing split gets its fraction of what train and the missing splits have together. Problems are
    reported by the rows of what was given, which are the caller's own, not by those of the splits. Rows of one of
    ``groups``, an array with one a row, stay in one split; ``weights`` are one a row too.
    """
    fractions = check_fractions(splits)
    given = {part: _split_of(source, name) for part, source in parts.items()}
    problems: list[str] = []
    for part, split in given.items():
        problems += split_problems(split, "the data" if len(given) == 1 else f"the {part} split")
    if not problems and not len(given["train"]):
        problems.append("it has no samples")
    raise_problems(name, problems)

    if groups is not None:
        named = np.asarray(groups)
        if len(given) > 1 or named.shape != (len(given["train"]),):
            raise ModelspaceError(
                f"data '{name}': groups of shape {list(named.shape)} for {len(given['train'])} samples: give one "
                "whole number or string a sample, of data that is not split yet"
            )
        own = torch.from_numpy(np.unique(named, return_inverse=True)[1])
        given["train"] = replace(given["train"], groups=own)
    if weights is not None:
        given["train"] = _weighted(given["train"], weights, name, alone=len(given) == 1)
    missing = [part not in given for part in _NAMES]
    # Splits that all are given keep their rows in the order given.
    cut = [any(missing), *missing[1:]]
    whole = fractions[0] + sum(fraction for fraction, lacks in zip(fractions, missing, strict=True) if lacks)
    shares = [fraction / whole if is_cut else 0.0 for fraction, is_cut in zip(fractions, cut, strict=True)]
    train = given["train"]
    rows, notes = (), ()
    if any(missing) and any(map(is_mapped, tensors(train.inputs))):
        rows, notes = (
            _in_order(train, shares, name),
            ("split in the file's order, so that nothing is copied",),
        )
    elif any(missing):
        # What is not one label a sample is split at random, as if it were one class.
        plain = unweighted(train.labels)
        strata = plain if isinstance(plain, Tensor) else torch.zeros(len(train))
        rows = split_indices(strata, shares, seed, train.groups)
    made = {part: train.take(rows[i]) if cut[i] else given[part] for i, part in enumerate(_NAMES)}
    data = Data(name, made["train"], made["validation"], made["test"], notes=notes)
    check_data(data, rows=False)
    return data


def _weighted(train: Split, weights: Any, name: str, *, alone: bool) -> Split:
    """Samples with their weights beside their labels.

    Raises:
        ModelspaceError: they are not one finite number of at least 0 a sample, or there are no labels to weight.
    """
    made = torch.as_tensor(np.asarray(weights)).to(torch.get_default_dtype())
    wrong = not alone or made.shape != (len(train),) or not bool((made.isfinite() & (made >= 0)).all())
    if wrong or not made.any():
        raise ModelspaceError(
            f"data '{name}': weights of shape {list(made.shape)} for {len(train)} samples: give one finite number of "
            "at least 0 a sample, not all of them 0, of data that is not split yet"
        )
    if train.labels is None:
        raise ModelspaceError(
            f"data '{name}' has no labels, of which weights= are: give them as a part of the inputs"
        )
    return replace(train, labels=WeightedLabels(train.labels, made))


def _in_order(train: Split, shares: list[float], name: str) -> tuple[slice, ...]:
    """The rows of each split where they are views: the first for training, the last for the test.

    Raises:
        ModelspaceError: there are groups, or a class would not be trained on.
    """
    ends = [round(share * len(train)) for share in np.cumsum([0.0, *shares])]
    fix = "shuffle the file's rows once, or give x_train, y_train, x_val, y_val, x_test, y_test"
    if train.groups is not None:
        raise ModelspaceError(
            f"data '{name}' stays in its file, which is split in its order, not by groups: {fix}"
        )
    rows = tuple(slice(begin, end) for begin, end in pairwise(ends))
    labels = unweighted(train.labels)
    if is_class_labels(labels):
        lost = set(labels.unique().tolist()) - set(labels[rows[0]].unique().tolist())
        if lost:
            raise ModelspaceError(
                f"data '{name}' stays in its file, which is split in its order, and its first {ends[1]:,} rows have "
                f"none of class {min(lost)}{f' and {len(lost) - 1} others' if len(lost) > 1 else ''}: {fix}"
            )
    return rows
