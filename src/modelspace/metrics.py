"""Metrics: means over a batch's samples of how good the outputs are, for reading rather than for training."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float, Shaped
from torch import Tensor

from modelspace.errors import ModelspaceError, unknown_name
from modelspace.losses import Loss
from modelspace.losses.contracts import Contract, anything, class_labels, plus_minus_one
from modelspace.losses.shapes import require_class_labels, require_same_shape
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
    """A mean over a batch's samples, so that a split's value is the mean of its batches', weighted by size.

    Attributes:
        name: What the user typed, or the callable's own name.
        function: Outputs and labels to a scalar; traceable.
        higher_is_better: The direction in which a member wins.
        contract: What the values of both must be; runs in ``check`` alone.
    """

    name: str
    function: Callable[[Tensor, Tensor], Tensor]
    higher_is_better: bool
    contract: Contract = anything

    def __call__(self, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> Float[Tensor, ""]:
        """The metric of one batch, as a scalar.

        Args:
            outputs: What the model returned.
            labels: What it should have returned.

        Returns:
            A tensor of no dimensions.

        Raises:
            ModelspaceError: If the function returned anything else.
        """
        value = self.function(outputs, labels)
        if not isinstance(value, Tensor) or value.ndim:
            shape = f"shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ModelspaceError(
                f"metric '{self.name}' returned {shape}: it must return a scalar tensor, "
                "the mean over the batch"
            )
        return value

    def check(self, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
        """Hold real outputs and labels against the metric's contract; once, before it is used.

        Args:
            outputs: The outputs of one member.
            labels: The labels of the same samples.
        """
        self.contract(self.name, outputs, labels)
        self(outputs, labels)


METRICS = {
    "accuracy": Metric("accuracy", accuracy, higher_is_better=True, contract=_classes_or_signs),
    "error": Metric("error", error, higher_is_better=False, contract=_classes_or_signs),
    "mse": Metric("mse", mse, higher_is_better=False),
    "mae": Metric("mae", mae, higher_is_better=False),
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
    scored = loss.outputs in (None, "logits", "score", "probability", "log-probability")
    return ["accuracy"] if classes is not None and scored and loss.labels in (None, "class", "sign") else []


def resolve(
    metric: str | Metric | Loss | Callable[[Tensor, Tensor], Tensor], *, higher_is_better: bool = False
) -> Metric:
    """The metric that a name, a loss or a callable stands for.

    Args:
        metric: ``"accuracy"``, ``"error"``, ``"mse"`` or ``"mae"``; a loss; or a callable of outputs and
            labels that returns the mean over the batch. ``"loss"`` is the caller's to resolve.
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
        return Metric(metric.name, metric, higher_is_better=False, contract=metric.contract)
    if isinstance(metric, str):
        if metric not in METRICS:
            raise unknown_name("metric", metric, METRICS)
        return METRICS[metric]
    if callable(metric):
        return Metric(getattr(metric, "__name__", type(metric).__name__), metric, higher_is_better)
    raise ModelspaceError(
        f"metric is a {type(metric).__name__}: give a name such as 'accuracy', "
        "or a function of outputs and labels"
    )
