"""The records: one part of a data set, and the three parts together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from modelspace.errors import ModelspaceError, unknown_name
from modelspace.nest import Nest, WeightedLabels, described, samples, take, tensors, unshared, unweighted


# Compared by identity: the equality that a dataclass would write asks a tensor for its truth value.
@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """One part of a data set: inputs and their labels, row for row.

    Attributes:
        inputs: ``[N, *sample]``, one row a sample, of any dtype the model takes; or a nest of such tensors, which the
            model is called with: a tuple's parts by position, a dict's by keyword, any other nest as one argument.
        labels: ``[N]`` integers (classes), or ``[N, …]`` of whatever the loss takes, or a nest; None without labels.
        form: What an objective's batch is made of: ``pair``, (inputs, labels); ``flat``, (input, …, label);
            ``inputs`` alone; or ``dict:NAME``, the inputs and the labels by their name.
        groups: ``[N]`` integers: samples of one group are not apart in splits and folds; None without groups.

    >>> import torch
    >>> len(Split(torch.zeros(5, 3, 7, 7), torch.zeros(5, dtype=torch.int64)))
    5
    """

    inputs: Nest
    labels: Nest = None
    form: str = "pair"
    groups: Tensor | None = None

    def __len__(self) -> int:
        return samples(self.inputs)

    def __repr__(self) -> str:
        return f"Split({len(self)} samples: inputs {described(self.inputs)}, {self.said})"

    @property
    def whole(self) -> bool:
        """Whether all of its samples are there to be indexed."""
        return True

    @property
    def counted(self) -> str:
        """How much there is, in words."""
        return str(len(self))

    @property
    def total(self) -> int:
        """Samples of it, held or not."""
        return len(self)

    @property
    def said(self) -> str:
        """What the labels are, in words."""
        return "no labels" if self.labels is None else f"labels {described(self.labels)}"

    def take(self, index: Any) -> "Split":
        """Return some of the samples, by an index or a slice."""
        groups = None if self.groups is None else self.groups[index]
        return Split(take(self.inputs, index), take(self.labels, index), self.form, groups)


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """A data set: what is fitted on, what is chosen on, what is reported on.

    Attributes:
        name: What reports call it.
        train: What the parameters are fitted to.
        validation: What hyper-parameters are chosen by; may be empty.
        test: What is reported; may be empty.
        tasks: Where the data are several tasks, each sample's, from 0, by split; see ``of_tasks``.
        notes: What was done with the columns of a table, a line for each way.
        class_names: What the classes are called, by number; None where they are numbers alone.
        encoder: Turns another table of the same columns into inputs; None where the data were no table.

    >>> from modelspace.data import digits
    >>> digits()
    Data('digits': 1078 train, 360 validation, 359 test; inputs 1x8x8 float32, 10 classes)
    """

    name: str
    train: Split
    validation: Split
    test: Split
    tasks: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    encoder: Callable[[Any], Tensor] | None = None

    @property
    def groups(self) -> Tensor | None:
        """Which group each training sample is of, ``[N]``; None without groups."""
        return self.train.groups

    @property
    def splits(self) -> dict[str, Split]:
        """The three parts by name, in their order."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def part(self, name: str) -> Split:
        """Return a split by its name, to be scored on.

        Raises:
            ModelspaceError: there is none of this name, it is empty, or its samples are not there to be indexed.
        """
        if name not in self.splits:
            raise unknown_name("split", name, self.splits)
        split = self.splits[name]
        if not split.whole:
            raise ModelspaceError(
                f"the {name} split of {self.name} is a stream, which is trained on alone: score on validation or test"
            )
        if not len(split):
            fix = ": give split='validation'" if name == "test" and len(self.validation) else ""
            raise ModelspaceError(f"the {name} split of {self.name} is empty{fix}")
        return split

    @property
    def held(self) -> "Data":
        """The same with all splits in memory or mapped: of a stream, its first batches."""
        return self if self.train.whole else replace(self, train=self.train.take(slice(None)))

    @property
    def task_count(self) -> int:
        """How many tasks the data are: 1 where they are not several."""
        return 1 + max((int(ids.max()) for ids in self.tasks.values() if len(ids)), default=0)

    @property
    def form(self) -> str:
        """What an objective's batch is made of: see ``Split``."""
        return "inputs" if self.train.labels is None else self.train.form

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """The shape of one sample, without the batch: ``(3, 7, 7)``; None where inputs are several tensors."""
        inputs = unshared(self.train.inputs)
        return tuple(inputs.shape[1:]) if isinstance(inputs, Tensor) else None

    @property
    def input_dtype(self) -> torch.dtype:
        """The type of the inputs, of the first where they are several."""
        return tensors(unshared(self.train.inputs))[0].dtype

    @property
    def classes(self) -> int | None:
        """Largest label + 1 over all splits; ``None`` where the labels aren't one integer a sample."""
        labels = [unweighted(split.labels) for split in self.splits.values() if len(split)]
        if not labels or not all(is_class_labels(part) for part in labels):
            return None
        largest = max(int(part.max()) for part in labels)
        return 1 + largest if largest >= 0 else None

    def __repr__(self) -> str:
        counts = ", ".join(f"{split.counted} {name}" for name, split in self.splits.items())
        many = f"{self.task_count:,} tasks, " if self.tasks else ""
        line = f"Data('{self.name}': {many}{counts}; inputs {self._inputs()}, {self._labels()})"
        return "\n  ".join([line, *self.notes])

    def _repr_html_(self) -> str:
        rows = [(name, f"{split.counted} samples") for name, split in self.splits.items()]
        rows += [("one input", self._inputs()), ("labels", self._labels())]
        rows += [("notes" * (i == 0), note) for i, note in enumerate(self.notes)]
        cells = "".join(f"<tr><th>{escape(left)}</th><td>{escape(right)}</td></tr>" for left, right in rows)
        return f"<table><caption>{escape(self.name)}</caption>{cells}</table>"

    def _inputs(self) -> str:
        return described(self.train.inputs)

    def _labels(self) -> str:
        if self.classes is not None:
            return f"{self.classes} classes" + ", weighted" * isinstance(self.train.labels, WeightedLabels)
        return self.train.said


def is_class_labels(labels: Nest) -> TypeGuard[Tensor]:
    """Whether the labels are classes: one integer a sample."""
    return (
        isinstance(labels, Tensor)
        and labels.ndim == 1
        and not labels.is_floating_point()
        and not labels.is_complex()
    )
