"""Which sample goes to which split: stratified over classes, seeded, disjoint, complete.

Not scikit-learn's ``train_test_split``: it refuses a class with a single sample, and cutting twice rounds
twice, so that a class can end further than one sample from its share.
"""

import math
from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor

from modelspace.data.dataset import is_class_labels
from modelspace.data.randomness import generator
from modelspace.errors import ModelspaceError

Fractions = tuple[float, float, float]
_ROUNDING = 1e-9


def check_fractions(splits: Iterable[float]) -> Fractions:
    """The fractions of train, validation and test, if they are that.

    Args:
        splits: Three numbers that sum to 1 within 1e-9: the first positive, the others ≥ 0.

    Returns:
        The three.

    Raises:
        ModelspaceError: they aren't.
    """
    values = tuple(float(value) for value in splits)
    expected = "give three fractions for train, validation and test that sum to 1, such as (0.6, 0.2, 0.2)"
    if len(values) != 3:
        raise ModelspaceError(f"splits {values} are {len(values)} numbers: {expected}")
    if not values[0] > 0 or not min(values) >= 0:
        raise ModelspaceError(f"splits {values}: train has to be positive, none may be negative; {expected}")
    if not abs(math.fsum(values) - 1) <= _ROUNDING:
        raise ModelspaceError(f"splits {values} sum to {math.fsum(values):g}: {expected}")
    return values


def split_indices(
    labels: Shaped[Tensor, "sample *target"],
    splits: Iterable[float],
    seed: int,
    groups: Int64[Tensor, "sample"] | None = None,
) -> tuple[Int64[Tensor, "train"], Int64[Tensor, "validation"], Int64[Tensor, "test"]]:
    """The rows of each split, in random order.

    Class labels (one integer a sample) are stratified: a class of n samples gives each split its share n·f to
    within one, and train at least one. Any other labels are split at random as if they were one class.

    Args:
        labels: The labels of all samples.
        splits: Fractions of train, validation and test.
        seed: 0 … 2⁶³ − 1.
        groups: Samples of one group go to one split, with classes about in their shares.

    Returns:
        Three disjoint index tensors that together hold every row once.

    Raises:
        ModelspaceError: the fractions or the seed are out of range, or there are fewer groups than splits.
    """
    fractions = np.array(check_fractions(splits))
    order = generator(seed).permutation(len(labels))
    if groups is not None:
        classes = labels.cpu().numpy() if is_class_labels(labels) else np.zeros(len(labels), np.int64)
        part = _whole_groups(groups.cpu().numpy()[order], classes[order], fractions)
        train, validation, test = (torch.from_numpy(order[part == index]) for index in range(3))
        return train, validation, test
    strata = labels.cpu().numpy()[order] if is_class_labels(labels) else np.zeros(len(labels), np.int64)
    _, group, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    part = np.empty(len(labels), np.int64)
    # Rows grouped by class; within a class they keep their random order, so the first are a random choice.
    by_group = np.argsort(group, kind="stable")
    part[by_group] = np.concatenate(
        [np.repeat(np.arange(3), counts) for counts in _shares(sizes, fractions)] or [part]
    )
    train, validation, test = (torch.from_numpy(order[part == index]) for index in range(3))
    return train, validation, test


def _whole_groups(
    groups: NDArray[np.int64], classes: NDArray[np.int64], fractions: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Which split each row goes to where a group's rows stay together.

    The largest groups first, those of one size at random; each to the split that is furthest behind its share of
    the group's classes. No split that has a share is left without a group.
    """
    names, first, group = np.unique(groups, return_index=True, return_inverse=True)
    wanted = int((fractions > 0).sum())
    if len(names) < wanted:
        raise ModelspaceError(
            f"{len(names)} groups can't be divided among {wanted} splits: give fewer splits"
        )
    _, place = np.unique(classes, return_inverse=True)
    counts = np.zeros((len(names), place.max() + 1))
    np.add.at(counts, (group, place), 1)
    behind = fractions[:, None] * counts.sum(0)
    weight = 1 / counts.sum(0)
    empty = fractions > 0
    part = np.empty(len(names), np.int64)
    queue = np.lexsort((first, -counts.sum(1)))
    for done, index in enumerate(queue):
        need = (behind * counts[index] * weight).sum(1)
        must = empty if len(queue) - done <= empty.sum() else fractions > 0
        part[index] = np.argmax(np.where(must, need, -np.inf))
        behind[part[index]] -= counts[index]
        empty[part[index]] = False
    return part[group]


def _shares(sizes: NDArray[np.int64], fractions: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """How many of each class go to each split.

    A share is rounded down; what is left over goes, one sample each, to the splits that are furthest behind
    their total so far, so that the splits' sizes keep to their fractions too.
    """
    shares = []
    behind = np.zeros(3)
    for size in sizes:
        target = size * fractions
        counts = np.floor(target + _ROUNDING).astype(np.int64)
        remainder = target - counts
        behind += remainder
        left_over = int(size - counts.sum())
        candidates = sorted(np.flatnonzero(remainder > _ROUNDING), key=lambda index: -behind[index])
        for index in candidates[:left_over]:
            counts[index] += 1
            behind[index] -= 1
        if counts[0] == 0:
            # A class never trained on can't be learnt: take one from the split furthest over its share.
            giver = int(np.argmax(counts - target))
            counts[giver] -= 1
            counts[0] += 1
            behind += np.eye(3)[giver] - np.eye(3)[0]
        shares.append(counts)
    return shares
