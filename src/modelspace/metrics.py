"""Metrics: how good the outputs of a split are for its labels, for reading rather than for training."""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from modelspace.errors import ModelspaceError, unknown_name
from modelspace.losses import (
    Contract,
    Loss,
    Objective,
    anything,
    class_labels,
    plus_minus_one,
    prediction,
    require_class_labels,
    require_same_shape,
)
from modelspace.widest import widest


def accuracy(outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, ""]:
    """The fraction of labels that the outputs get right.

    Args:
        outputs: Scores [N, C, ...], whose class is the largest over dimension 1; or [N], whose class is the
            sign (an output of exactly 0 is wrong for both).
        labels: Integer classes [N, ...]; or ±1 [N].

    Returns:
        A scalar in [0, 1].

    Raises:
        ModelspaceError: If the shapes or the labels' dtype fit neither form.

    Example:
        >>> import torch
        >>> accuracy(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
        tensor(0.5000, dtype=torch.float64)
    """
    if outputs.ndim == 1:
        require_same_shape("accuracy", outputs, labels)
        right = outputs * labels.to(outputs.dtype) > 0
    else:
        require_class_labels("accuracy", outputs, labels)
        right = outputs.argmax(1) == labels
    # In double, so that equal counts of hits are equal accuracies however the samples were split into batches.
    return right.to(widest(right.device)).mean()


def error(outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, ""]:
    """The fraction of labels that the outputs get wrong, 1 − accuracy.

    Args:
        outputs: As for ``accuracy``.
        labels: As for ``accuracy``.

    Returns:
        A scalar in [0, 1].

    Example:
        >>> import torch
        >>> error(torch.tensor([0.3, -0.1, 2.0, 1.0]), torch.tensor([1, 1, 1, 1]))
        tensor(0.2500, dtype=torch.float64)
    """
    return 1 - accuracy(outputs, labels)


def mse(outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, ""]:
    """The mean squared error, (y − z)² over all elements.

    Args:
        outputs: z, of any shape.
        labels: y, of the same shape.

    Returns:
        A scalar, in the labels' unit squared.

    Example:
        >>> import torch
        >>> mse(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
        tensor(2.)
    """
    require_same_shape("mse", outputs, labels)
    return (labels.to(outputs.dtype) - outputs).square().mean()


def mae(outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, ""]:
    """The mean absolute error, |y − z| over all elements.

    Args:
        outputs: z, of any shape.
        labels: y, of the same shape.

    Returns:
        A scalar, in the labels' unit.

    Example:
        >>> import torch
        >>> mae(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
        tensor(1.)
    """
    require_same_shape("mae", outputs, labels)
    return (labels.to(outputs.dtype) - outputs).abs().mean()


def _classes_or_signs(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    if outputs.ndim == 1:
        plus_minus_one(name, outputs, labels)
    else:
        class_labels(name, outputs, labels)


@dataclass(frozen=True)
class Metric:
    """A function of all outputs and all labels of a split: a mean, an F1 score, an area under a curve, a correlation.

    It is called once for each member, with plain tensors that need no gradient, copies of its own: NumPy,
    scikit-learn and writing into them are all right.

    Attributes:
        name: What the user typed, or the callable's own name.
        function: Outputs and labels to a number: a tensor of no dimensions, a Python or a NumPy number.
        higher_is_better: The direction in which a member wins.
        contract: What the values of both must be; runs in ``check`` alone.
        sample_mean: That it is a mean over samples, and traceable (``vmap``): then the outputs of the split are never
            in memory together, and all members' values are computed at once, a piece of the samples at a time.
    """

    name: str
    function: Callable[[Tensor, Tensor], Any]
    higher_is_better: bool
    contract: Contract = anything
    sample_mean: bool = False

    def __call__(self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Shaped[Tensor, ""]:
        """The metric of these outputs, as a scalar.

        Args:
            outputs: What the model returned.
            labels: What it should have returned.

        Returns:
            A tensor of no dimensions.

        Raises:
            ModelspaceError: If the function returned anything but a number.
        """
        value = self.function(self._taken(outputs), labels)
        if isinstance(value, Real | np.bool_) or (isinstance(value, np.ndarray) and value.ndim == 0):
            value = torch.tensor(float(value), dtype=widest(outputs.device), device=outputs.device)
        if not isinstance(value, Tensor) or value.ndim or value.is_complex():
            shape = f"shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            kind = f" of {value.dtype}" if isinstance(value, Tensor) and value.is_complex() else ""
            raise ModelspaceError(
                f"metric '{self.name}' returned {shape}{kind}: it must return one real number, "
                "a scalar tensor or a Python one"
            )
        return value

    def _taken(self, outputs: Any) -> Any:
        """What it is taken of: one tensor; a function of the user's gets the outputs as they are."""
        users = not (isinstance(self.function, Loss) or any(self is known for known in METRICS.values()))
        return outputs if users else prediction(outputs)

    def is_sample_mean(self, labels: Shaped[Tensor, "..."]) -> bool:
        """Whether its value is known to be the mean over these samples of what each has by itself."""
        loss = self.function
        return self.sample_mean or (isinstance(loss, Loss) and loss.is_sample_mean(labels))

    def check_values(self, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
        """Hold real outputs and labels against the contract: its own, or that of the loss that it is."""
        outputs = self._taken(outputs)
        if isinstance(self.function, Loss):
            self.function.check_values(outputs, labels)
        else:
            self.contract(self.name, outputs, labels)

    def check(self, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
        """Hold real outputs and labels against the metric's contract; once, before it is used.

        Args:
            outputs: The outputs of one member.
            labels: The labels of the same samples; of a mean over samples, some of them are enough.
        """
        self.check_values(outputs, labels)
        if self.is_sample_mean(labels):
            self(outputs, labels)


METRICS = {
    "accuracy": Metric(
        "accuracy", accuracy, higher_is_better=True, contract=_classes_or_signs, sample_mean=True
    ),
    "error": Metric("error", error, higher_is_better=False, contract=_classes_or_signs, sample_mean=True),
    "mse": Metric("mse", mse, higher_is_better=False, sample_mean=True),
    "mae": Metric("mae", mae, higher_is_better=False, sample_mean=True),
}


def usual(loss: Loss, classes: int | None) -> list[str]:
    """What is measured beside the loss where nothing else is asked for: the accuracy, where outputs score classes.

    Args:
        loss: The loss; embeddings, ranks and the outputs of regression are no scores of classes.
        classes: How many classes the labels have; None where they are none.

    Example:
        >>> from modelspace import losses
        >>> usual(losses.resolve("hinge"), 10), usual(losses.resolve("triplet"), 10)
        (['accuracy'], [])
    """
    if isinstance(loss, Objective):
        return []
    scored = loss.outputs in (None, "logits", "score", "probability", "log-probability")
    return ["accuracy"] if classes is not None and scored and loss.labels in (None, "class", "sign") else []


def resolve(
    metric: str | Metric | Loss | Callable[[Tensor, Tensor], Tensor], *, higher_is_better: bool = False
) -> Metric:
    """The metric that a name, a loss or a callable stands for.

    Args:
        metric: ``"accuracy"``, ``"error"``, ``"mse"`` or ``"mae"``; a loss; or a callable of all
            outputs and all labels of a split that returns a number. ``"loss"`` is the caller's to resolve.
        higher_is_better: The direction of a callable; the others know theirs.

    Returns:
        The metric.

    Raises:
        ModelspaceError: If the name is not known, or ``metric`` is neither a name nor a callable.

    Example:
        >>> resolve("accuracy").higher_is_better
        True
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, Loss):
        return Metric(metric.name, metric, higher_is_better=False)
    if isinstance(metric, str):
        if metric not in METRICS:
            raise unknown_name("metric", metric, METRICS)
        return METRICS[metric]
    for known in METRICS.values():
        if metric is known.function:
            return known
    if callable(metric):
        return Metric(getattr(metric, "__name__", type(metric).__name__), metric, higher_is_better)
    raise ModelspaceError(
        f"metric is a {type(metric).__name__}: give a name such as 'accuracy', "
        "or a function of outputs and labels"
    )
