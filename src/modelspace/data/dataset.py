"""The records: one part of a data set, and the three parts together."""

from dataclasses import dataclass
from html import escape

from jaxtyping import Shaped
from torch import Tensor


# Compared by identity: the equality that a dataclass would write asks a tensor for its truth value.
@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """One part of a data set: inputs and their labels, row for row.

    Attributes:
        inputs: ``[N, *sample]``, one row a sample, of any dtype the model takes.
        labels: ``[N]`` integers (classes), or ``[N, …]`` of whatever the loss takes.

    >>> import torch
    >>> len(Split(torch.zeros(5, 3, 7, 7), torch.zeros(5, dtype=torch.int64)))
    5
    """

    inputs: Shaped[Tensor, "sample *shape"]
    labels: Shaped[Tensor, "sample *target"]

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        return f"Split(inputs {_kind(self.inputs)}, labels {_kind(self.labels)})"


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """A data set: what is fitted on, what is chosen on, what is reported on.

    Attributes:
        name: What reports call it.
        train: What the parameters are fitted to.
        validation: What hyper-parameters are chosen by; may be empty.
        test: What is reported; may be empty.

    >>> from modelspace.data import digits
    >>> digits()
    Data('digits': 1078 train, 360 validation, 359 test; inputs 1x8x8 float32, 10 classes)
    """

    name: str
    train: Split
    validation: Split
    test: Split

    @property
    def splits(self) -> dict[str, Split]:
        """The three parts by name, in their order."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample, without the batch: ``(3, 7, 7)``."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def classes(self) -> int | None:
        """Largest label + 1 over all splits; ``None`` where the labels aren't one integer a sample."""
        labels = [split.labels for split in self.splits.values() if split.labels.numel()]
        if not labels or not all(is_class_labels(part) for part in labels):
            return None
        return 1 + max(int(part.max()) for part in labels)

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(split)} {name}" for name, split in self.splits.items())
        return f"Data('{self.name}': {counts}; inputs {self._inputs()}, {self._labels()})"

    def _repr_html_(self) -> str:
        rows = [(name, f"{len(split)} samples") for name, split in self.splits.items()]
        rows += [("one input", self._inputs()), ("labels", self._labels())]
        cells = "".join(f"<tr><th>{escape(left)}</th><td>{escape(right)}</td></tr>" for left, right in rows)
        return f"<table><caption>{escape(self.name)}</caption>{cells}</table>"

    def _inputs(self) -> str:
        shape = "x".join(map(str, self.input_shape)) or "scalar"
        return f"{shape} {_dtype(self.train.inputs)}"

    def _labels(self) -> str:
        if self.classes is not None:
            return f"{self.classes} classes"
        shape = "x".join(map(str, self.train.labels.shape[1:])) or "scalar"
        return f"labels {shape} {_dtype(self.train.labels)}"


def is_class_labels(labels: Shaped[Tensor, "..."]) -> bool:
    """Whether the labels are classes: one integer a sample."""
    return labels.ndim == 1 and not labels.is_floating_point() and not labels.is_complex()


def _dtype(tensor: Shaped[Tensor, "..."]) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _kind(tensor: Shaped[Tensor, "..."]) -> str:
    return f"{list(tensor.shape)} {_dtype(tensor)}"
