"""Which samples a member is trained and scored on, where a column of the population says so.

``fold``, ``bootstrap``, ``samples`` and ``task`` are columns: a value a member. The data stand in memory once, as a
pool; a member's samples are row numbers in it, found again when its shard is trained, so that memory does not grow
with the members.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int64
from torch import Tensor

from modelspace.data.dataset import Data, Split, is_class_labels
from modelspace.data.randomness import generator
from modelspace.errors import ModelspaceError
from modelspace.nest import mapped_together, unweighted

COLUMNS: Mapping[str, str] = {
    "task": "which of the data's tasks, from 0",
    "fold": "which of the folds, from 0: the member is scored on it and trained on the others",
    "samples": "how many of the training samples, the first of a seeded order",
    "bootstrap": "seed of a resample of the training samples with replacement",
}
# Within a seed's numbers: the data order has taken key 0, label noise key 1.
_BOOTSTRAP, _SAMPLES = 2, 3

Rows = Int64[Tensor, "row"]


@dataclass(frozen=True, eq=False)
class Views:
    """What every member sees of one data set.

    Attributes:
        data: It.
        table: The columns of ``COLUMNS`` that the population has, one row a member.
        folds: How many folds there are.
        seed: What the folds and the order of ``samples`` are a function of.
    """

    data: Data
    table: pd.DataFrame
    folds: int
    seed: int

    @cached_property
    def pool(self) -> Split:
        """All that members are trained on; with folds, the validation split's samples too."""
        train, validation = self.data.train, self.data.validation
        if "fold" not in self.table or not len(validation):
            return train
        join = (lambda *parts: torch.cat(parts),)
        inputs = mapped_together(*join, train.inputs, validation.inputs)
        labels = None if train.labels is None else mapped_together(*join, train.labels, validation.labels)
        both = [split.groups for split in (train, validation) if split.groups is not None]
        groups = torch.cat(both) if len(both) == 2 else None
        return Split(inputs, labels, train.form, groups)

    @property
    def scored(self) -> Split:
        """What members are scored on."""
        return self.pool if "fold" in self.table else self.data.validation

    @property
    def own_scores(self) -> bool:
        """Whether members are scored on samples of their own."""
        return "fold" in self.table or "task" in self.table

    def train(self, k: int) -> Rows:
        """Return the samples that a member is trained on, as rows of the pool."""
        rows = self._base(self.pool, k, "train")
        if "fold" in self.table:
            rows = rows[self._folds(rows, k) != int(self.table["fold"].iloc[k])]
        if "samples" in self.table:
            count = int(self.table["samples"].iloc[k])
            if not 1 <= count <= len(rows):
                raise ModelspaceError(
                    f"column samples: {count} of member {k}, which has {len(rows)} training samples: give 1 to "
                    f"{len(rows)}"
                )
            rows = rows[generator(self.seed, _SAMPLES, 0).permutation(len(rows))[:count]]
        if "bootstrap" in self.table:
            seed = int(self.table["bootstrap"].iloc[k])
            rows = rows[generator(seed, _BOOTSTRAP, 0).integers(len(rows), size=len(rows))]
        return torch.from_numpy(rows)

    def validation(self, k: int) -> Rows:
        """Return the samples that a member is scored on, as rows of ``scored``."""
        rows = self._base(self.scored, k, "train" if "fold" in self.table else "validation")
        if "fold" in self.table:
            rows = rows[self._folds(rows, k) == int(self.table["fold"].iloc[k])]
        return torch.from_numpy(rows)

    def of_split(self, name: str, k: int) -> Rows:
        """Return the samples of a split of the data that are of a member's task: all, where the data are one."""
        return torch.from_numpy(self._base(self.data.splits[name], k, name))

    def alike(self, rows: Sequence[int]) -> list[tuple[Any, ...]]:
        """Return a key for each of some members: those of equal keys see the same samples."""
        table = self.table.iloc[list(rows)]
        return list(zip(*(table[name] for name in table), strict=True))

    def sizes(self) -> Int64[Tensor, "member"]:
        """Return how many samples each member is trained on."""
        known: dict[Any, int] = {}
        names = [name for name in ("task", "fold", "samples") if name in self.table]
        keys = list(zip(*(self.table[name] for name in names), strict=True)) or [()] * len(self.table)
        for k, key in enumerate(keys):
            if key not in known:
                known[key] = len(self.train(k))
        return torch.tensor([known[key] for key in keys], dtype=torch.int64)

    def _base(self, split: Split, k: int, name: str) -> np.ndarray:
        if "task" not in self.table:
            return np.arange(len(split))
        return self._of_tasks[name].get(int(self.table["task"].iloc[k]), np.zeros(0, dtype=np.int64))

    @cached_property
    def _of_tasks(self) -> dict[str, dict[int, np.ndarray]]:
        """The rows of every task, by split."""
        found = {}
        for name, ids in self.data.tasks.items():
            order = np.argsort(ids, kind="stable")
            values, starts = np.unique(ids[order], return_index=True)
            found[name] = (
                dict(zip(values.tolist(), np.split(order, starts[1:]), strict=True)) if len(values) else {}
            )
        if "fold" in self.table and len(self.data.validation):
            raise ModelspaceError(
                "folds of tasks: give the tasks without a validation split, of which folds take the place"
            )
        return found

    def _folds(self, rows: np.ndarray, k: int) -> np.ndarray:
        """The fold of each of these rows, which are all that there are for a member: of its task, or of the pool."""
        task = int(self.table["task"].iloc[k]) if "task" in self.table else None
        if task not in self._known_folds:
            split = self.pool.take(torch.from_numpy(rows))
            self._known_folds[task] = folds_of(split, self.folds, self.seed, self._groups(rows))
        return self._known_folds[task]

    @cached_property
    def _known_folds(self) -> dict[int | None, np.ndarray]:
        return {}

    def _groups(self, rows: np.ndarray) -> np.ndarray | None:
        return None if self.pool.groups is None else self.pool.groups.numpy()[rows]


def views_of(data: Data, table: pd.DataFrame, folds: int | None, seed: int) -> Views | None:
    """Return what each member sees of the data; None where all see all of it.

    Args:
        data: The data.
        table: The population's.
        folds: How many folds; one more than the largest of the column where None.
        seed: What the folds and the order of ``samples`` are a function of.

    Raises:
        ModelspaceError: a value is no whole number from 0 on, a task is none of the data's, or folds can't be made.
    """
    names = [name for name in COLUMNS if name in table]
    if not names:
        return None
    values = {}
    for name in names:
        column = np.asarray(pd.to_numeric(table[name], errors="coerce"), dtype=np.float64)
        wrong = ~((column >= 0) & (column == np.floor(column)))
        if wrong.any():
            k = int(np.flatnonzero(wrong)[0])
            raise ModelspaceError(
                f"column {name} is {COLUMNS[name]}: a whole number of at least 0; received {table[name].iloc[k]} "
                f"(member {k})"
            )
        values[name] = column.astype(np.int64)
    count = folds
    if "fold" in values:
        largest = int(values["fold"].max()) + 1
        count = max(largest, 2) if folds is None else folds
        if largest > count:
            raise ModelspaceError(
                f"column fold has {largest - 1}, and there are {count} folds, 0 to {count - 1}"
            )
    if "task" in values:
        if not data.tasks:
            raise ModelspaceError(
                f"column task: data '{data.name}' is one task; modelspace.data.of_tasks makes one data set of several"
            )
        largest, known = (
            int(values["task"].max()),
            1 + max(int(ids.max()) for ids in data.tasks.values() if len(ids)),
        )
        if largest >= known:
            raise ModelspaceError(
                f"column task has {largest}, and data '{data.name}' has tasks 0 to {known - 1}"
            )
    return Views(data, pd.DataFrame(values), count or 1, seed)


def folds_of(split: Split, folds: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Return the fold of every sample: stratified where labels are classes, whole groups where there are groups.

    Args:
        split: The samples.
        folds: How many.
        seed: Of the shuffle.
        groups: The group of each sample, whose samples stay together.

    Raises:
        ModelspaceError: there are fewer samples, fewer groups or fewer of some class than folds.

    Source:
        ``StratifiedKFold``, ``KFold``, ``StratifiedGroupKFold`` and ``GroupKFold`` of scikit-learn.
    """
    from sklearn import model_selection as sklearn

    plain = unweighted(split.labels)
    labels = plain.cpu().numpy() if is_class_labels(plain) else None
    if labels is not None:
        known, counts = np.unique(labels, return_counts=True)
        if known[0] < 0 < len(known) - 1 and known.tolist() != [-1, 1]:
            # A loss may leave that label out: it is spread as one more of the largest class.
            least, known, counts = known[0], known[1:], counts[1:]
            labels = np.where(labels == least, known[counts.argmax()], labels)
        least = counts.min()
        if least < folds and groups is None:
            raise ModelspaceError(
                f"{folds} folds: some class has {least} samples, so that a fold would have none of it; give fewer "
                "folds"
            )
        if len(np.unique(labels)) == 1:
            raise ModelspaceError(
                f"{folds} folds of samples that are all of one class: there is nothing to tell apart"
            )
    options = {"n_splits": folds, "shuffle": True, "random_state": seed}
    kinds = {
        (False, False): sklearn.KFold,
        (True, False): sklearn.StratifiedKFold,
        (False, True): sklearn.GroupKFold,
        (True, True): sklearn.StratifiedGroupKFold,
    }
    found = np.empty(len(split), dtype=np.int64)
    try:
        cutter = kinds[labels is not None, groups is not None](**options)
        for fold, (_, rows) in enumerate(cutter.split(np.zeros(len(split)), labels, groups)):
            found[rows] = fold
    except ValueError as error:
        raise ModelspaceError(f"{folds} folds of {len(split)} samples: {error}") from error
    return found
