"""Losses whose labels are classes: how much each class counts, and the label that counts nothing.

What every such loss does with ``weight`` and ``ignore_index`` is written here once. A family says what the value of a
label is (``each``) and, where it is not the label itself, which class it is of.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.losses._base import Labels, Loss, Reals, prediction, reduced
from modelspace.losses._checks import leaves_some_out, that_count
from modelspace.nest import Nest, unweighted

Counted = Bool[Tensor, "..."] | None  # None: all of them


class Weights(tuple[float, ...]):
    """One finite number of at least 0 for each class."""

    __slots__ = ()


class Balanced(Weights):
    """Weights that were counted; of a class beyond them, of which no label is, it is 1."""

    __slots__ = ()


@dataclass(frozen=True, eq=False)
class ClassLoss(Loss):
    """A loss of labels that are classes: its mean is Σ w_y ℓ / Σ w_y, with w_y the weight of the label y's class.

    So it is in ``torch.nn.CrossEntropyLoss(weight=, ignore_index=)``; a weight of 2 does what two copies of the
    sample do. The ``"sum"`` is Σ w_y ℓ, and of ``"none"`` the values are w_y ℓ. Where nothing counts, as in a batch
    that is all padding, the mean is 0 and so is its gradient (PyTorch's is NaN).

    Attributes:
        weight: w, one number of at least 0 for each class; (w₀, w₁) of two classes that are ±1, or 0 and 1; of sets
            of classes, what each counts where a sample has it (``pos_weight``), against 1 where not. ``"balanced"``:
            n / (C n_c) of the n training labels, n_c of them of class c (scikit-learn's ``class_weight``); of sets,
            how many samples don't have the class for each that has it. Of tasks, all labels together are counted.
            None: all count alike.
        ignore_index: The label that is left out: it has no loss, no weight and no gradient. None: there is none.
    """

    weight: Any = field(default=None, kw_only=True)
    ignore_index: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.weight is not None and not isinstance(self.weight, Weights):
            object.__setattr__(self, "weight", _weights(self.name, self.weight))
        left_out = self.ignore_index
        if left_out is not None and (isinstance(left_out, bool) or not isinstance(left_out, int)):
            raise ModelspaceError(f"{self.name}: ignore_index is {left_out!r}: it is a whole number, or None")
        super().__post_init__()

    @property
    def left_out(self) -> int | None:
        """The label that counts nothing."""
        return self.ignore_index

    def each(self, outputs: Reals, labels: Labels, counted: Counted) -> Reals:
        """Compute ℓ of every label, unweighted; where one does not count another stands in its place."""
        raise NotImplementedError

    def classes(self, outputs: Reals, labels: Labels) -> Int64[Tensor, "..."]:
        """Return the class of every label."""
        return labels.long()

    def class_count(self, outputs: Reals, labels: Labels) -> int:
        """Return how many classes there are, each with a weight."""
        return outputs.shape[1]

    def weighed(self, outputs: Reals, labels: Labels) -> tuple[Reals, Reals | None]:
        """Compute ℓ of every label, 0 for one left out, and how much each counts; None where all count alike."""
        counted = self.counted(labels)
        labels = labels if counted is None else labels.masked_fill(~counted, 1)
        values = self.each(outputs, labels, counted)
        weights = self.weights(values, outputs, labels)
        if counted is None:
            return values, weights
        counted = self.whole(counted, values)
        some = counted.to(values.dtype)
        return values.masked_fill(~counted, 0), some if weights is None else weights * some

    def weights(self, values: Reals, outputs: Reals, labels: Labels) -> Reals | None:
        """Return how much each value counts by its class; None where all count alike."""
        if self.weight is None:
            return None
        return self.table(values, self.class_count(outputs, labels))[self.classes(outputs, labels)]

    def whole(self, counted: Bool[Tensor, "..."], values: Reals) -> Bool[Tensor, "..."]:
        """Return which values count, where these are labels: of a value of several labels, one of which some do."""
        return counted if counted.ndim == values.ndim else counted.flatten(1).any(1)

    def counted(self, labels: Labels) -> Counted:
        """Return which labels count; None where all do."""
        return that_count(labels, self.ignore_index)

    def table(self, like: Reals, classes: int) -> Float[Tensor, "class"]:
        """Return the weights as a tensor.

        Raises:
            ModelspaceError: there are not as many as classes, or they are still to be counted.
        """
        weight = self.weight
        if isinstance(weight, str):
            raise ModelspaceError(
                f"{self.name}: the weights 'balanced' are counted from labels: fit and evaluate do it from the "
                "training split, and loss.on(labels) from any"
            )
        if isinstance(weight, Balanced):
            weight = (*weight, *[1.0] * (classes - len(weight)))
        if len(weight) != classes:
            raise ModelspaceError(
                f"{self.name} has {len(weight)} weights, and there are {classes} classes: give one for each"
            )
        return torch.tensor(weight, dtype=like.dtype, device=like.device)

    def per_label(self, outputs: Reals, labels: Labels) -> Reals:
        """Compute w_y ℓ of every label; 0 for one left out."""
        values, weights = self.weighed(outputs, labels)
        return values if weights is None or self.weight is None else values * weights

    def sums(self, outputs: Reals, labels: Labels) -> tuple[Reals, Labels]:
        """Compute Σ w_y ℓ and Σ w_y."""
        values, weights = self.weighed(outputs, labels)
        if weights is None:
            return values.sum(), values.new_tensor(values.numel())
        return (values if self.weight is None else values * weights).sum(), weights.sum()

    def __call__(self, outputs: Reals, labels: Labels, *, reduction: str = "mean") -> Reals:
        """Compute the loss of a batch: see ``Loss.__call__``; the mean is Σ w_y ℓ / Σ w_y."""
        outputs = prediction(outputs)
        if reduction != "mean" or (self.weight is None and self.ignore_index is None):
            return reduced(self.per_label(outputs, labels), reduction)
        total, weight = self.sums(outputs, labels)
        return total / torch.where(weight > 0, weight, 1)

    def is_sample_mean(self, labels: Labels) -> bool:
        """Tell whether all labels count alike: else the mean is one of those that count, as much as they do."""
        alike = self.weight is None and not leaves_some_out(labels, self.ignore_index)
        return alike and super().is_sample_mean(labels)

    def on(self, labels: Nest) -> "Loss":
        """Return the loss with weights that are ``"balanced"`` counted from these labels; of None all count alike.

        Example:
            >>> from modelspace.losses import CrossEntropy
            >>> loss = CrossEntropy(weight="balanced").on(torch.tensor([0, 0, 0, 1, -100]))
            >>> [round(w, 3) for w in loss.weight], str(loss)
            ([0.667, 2.0], 'cross_entropy(weight=balanced)')
        """
        if self.weight != "balanced":
            return self
        if labels is None:
            return replace(self, weight=None)
        labels = unweighted(labels)
        if not isinstance(labels, Tensor) or labels.is_complex():
            raise ModelspaceError(
                f"{self.name}: the weights 'balanced' are counted from one tensor of labels"
            )
        counted = self.counted(labels)
        counted = torch.ones_like(labels, dtype=torch.bool) if counted is None else counted
        if self.labels == "multi-hot":
            has = ((labels > 0) & counted).sum(0)
            found = torch.where(has > 0, (counted.sum(0) - has) / has.clamp(min=1), 1)
        else:
            found = self._balanced(labels[counted])
        return replace(self, weight=Balanced(found.tolist()))

    def _balanced(self, labels: Tensor) -> Float[Tensor, "class"]:
        two = self.labels in ("sign", "unit") and (labels.is_floating_point() or bool((labels < 0).any()))
        if labels.is_floating_point() and not two:
            raise ModelspaceError(
                f"{self.name}: the weights 'balanced' are counted from whole numbers, the classes"
            )
        classes = (labels > 0).long() if two else labels.long()
        if bool((classes < 0).any()):
            raise ModelspaceError(
                f"{self.name}: the weights 'balanced' are counted from classes, and {int(labels.min())} is none: "
                f"number them from 0, or leave it out with ignore_index={int(labels.min())}"
            )
        counts = torch.bincount(classes.flatten(), minlength=2 * two).double()
        there = counts > 0
        return torch.where(there, counts.sum() / (there.sum() * counts.clamp(min=1)), 1)

    def _given(self) -> list[str]:
        said = []
        if isinstance(self.weight, str | Balanced):
            said.append("weight=balanced")
        elif self.weight is not None:
            said.append(f"weight=[{', '.join(f'{w:g}' for w in self.weight)}]")
        if self.ignore_index != type(self).ignore_index:
            said.append(f"ignore_index={self.ignore_index}")
        return [*super()._given(), *said]

    def hyperparameters(self) -> dict[str, Any]:
        """Give every parameter, by name with the loss's own value: not what is said of labels."""
        return {n: value for n, value in super().hyperparameters().items() if n != "ignore_index"}


def _weights(name: str, weight: Any) -> Any:
    """Weights as numbers that can be compared.

    Raises:
        ModelspaceError: they are no such numbers.
    """
    if isinstance(weight, str) and weight == "balanced":
        return weight
    values = torch.as_tensor(weight).tolist() if _is_numbers(weight) else []
    good = bool(values) and all(0 <= value < float("inf") for value in values) and any(values)
    if not good:
        raise ModelspaceError(
            f"{name}: weight is {weight!r}: one finite number of at least 0 for each class, not all of them 0, or "
            "'balanced'"
        )
    return Weights(float(value) for value in values)


def _is_numbers(weight: Any) -> bool:
    if isinstance(weight, list | tuple):
        return all(isinstance(value, int | float) for value in weight)
    return isinstance(weight, Tensor | np.ndarray) and weight.ndim == 1
