"""What the *values* of outputs and labels must be for a loss to mean what it says.

A contract takes the loss's name, real (not traced) outputs and labels, and raises on the first breach. It
reads values, so it runs once, on one batch, before a fit; the losses themselves only look at shapes.
"""

from collections.abc import Callable

from jaxtyping import Bool, Shaped
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.losses.shapes import require_class_labels

Contract = Callable[[str, Tensor, Tensor], None]


def anything(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """No contract on values: a regression loss, or a loss of the user's own."""


def class_labels(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """Integer labels in [0, C) for scores of shape [N, C, ...].

    Args:
        name: The loss or metric, for the message.
        outputs: Scores [N, C, ...].
        labels: Class labels [N, ...].

    Raises:
        ModelspaceError: If a label is negative or not below C (how many are, and the extreme one), or if
            the labels' dtype or shape is not that of class labels.
    """
    require_class_labels(name, outputs, labels)
    classes, total = outputs.shape[1], labels.numel()
    below, above = int((labels < 0).sum()), int((labels >= classes).sum())
    if above:
        largest = int(labels.max())
        raise ModelspaceError(
            f"labels out of range: {above} of {total} labels are {classes} or more "
            f"(the largest is {largest}), but the model has {classes} outputs: "
            f"give it {largest + 1} outputs, or renumber the labels"
        )
    if below:
        raise ModelspaceError(
            f"labels out of range: {below} of {total} labels are negative "
            f"(the smallest is {int(labels.min())}), but classes are numbered from 0 to {classes - 1}: "
            "renumber the labels, or leave those samples out"
        )


def plus_minus_one(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """Labels of +1 and −1.

    Args:
        name: The loss or metric, for the message.
        outputs: Scores, of any value.
        labels: Labels.

    Raises:
        ModelspaceError: If a label is neither +1 nor −1.
    """
    wrong = (labels != 1) & (labels != -1)
    if not bool(wrong.any()):
        return
    zero_one = bool(((labels == 0) | (labels == 1)).all())
    fix = (
        "labels in {0, 1} become ±1 with 2 * labels - 1" if zero_one else "code the two classes as +1 and -1"
    )
    raise breach(name, "labels +1 and -1", labels, wrong, "labels are neither", fix)


def unit_labels(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """Labels in [0, 1]: two classes as 0 and 1, or the probability of class 1.

    Args:
        name: The loss, for the message.
        outputs: Scores or probabilities, not looked at.
        labels: Labels.

    Raises:
        ModelspaceError: If a label lies outside.
    """
    _within_unit(name, "labels", labels, "labels ±1 become {0, 1} with (labels + 1) / 2")


def probabilities(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """Outputs and labels in [0, 1].

    Args:
        name: The loss, for the message.
        outputs: Probabilities of class 1.
        labels: 0 and 1, or probabilities.

    Raises:
        ModelspaceError: If an output or a label lies outside.
    """
    _within_unit(
        name,
        "outputs",
        outputs,
        "end the model in a sigmoid, or use 'binary_cross_entropy_with_logits' on scores",
    )
    unit_labels(name, outputs, labels)


def cross_entropy_labels(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """The contract of ``cross_entropy`` in whichever of its two forms the shapes ask for.

    Args:
        name: The loss, for the message.
        outputs: Logits [N, C, ...].
        labels: Classes [N, ...], or class probabilities [N, C, ...].

    Raises:
        ModelspaceError: If a class label is out of range, or a probability outside [0, 1], or class
            probabilities don't sum to 1.
    """
    if labels.dtype.is_floating_point and labels.shape == outputs.shape:
        _within_unit(name, "labels", labels, "class probabilities lie between 0 and 1")
        sums = labels.sum(1)
        if bool(((sums - 1).abs() > 1e-3).any()):
            worst = sums.flatten()[(sums - 1).abs().argmax()].item()
            raise ModelspaceError(
                f"{name} expects class probabilities that sum to 1 over dimension 1, "
                f"and one sum is {worst:g}: divide the labels by their sum, or give integer class labels"
            )
    else:
        class_labels(name, outputs, labels)


def log_probabilities(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """Outputs that are logarithms of probabilities, so at most 0 (up to rounding).

    Args:
        name: The loss, for the message.
        outputs: Log-probabilities.
        labels: Not looked at.

    Raises:
        ModelspaceError: If an output is positive.
    """
    largest = outputs.max().item()
    if largest > 1e-3:
        raise ModelspaceError(
            f"{name} expects log-probabilities, which are at most 0, and the largest output is {largest:g}: "
            "end the model in log_softmax, or use 'cross_entropy' on logits"
        )


def log_probabilities_and_classes(
    name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]
) -> None:
    """Log-probabilities [N, C, ...] with class labels [N, ...].

    Args:
        name: The loss, for the message.
        outputs: Log-probabilities.
        labels: Class labels.

    Raises:
        ModelspaceError: If either is not what it should be.
    """
    class_labels(name, outputs, labels)
    log_probabilities(name, outputs, labels)


def counts(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """Labels that are counts, so at least 0.

    Args:
        name: The loss, for the message.
        outputs: Logarithms of rates, not looked at.
        labels: Counts.

    Raises:
        ModelspaceError: If a label is negative.
    """
    smallest = labels.min().item()
    if smallest < 0:
        raise ModelspaceError(f"{name} expects counts, at least 0, and the smallest label is {smallest:g}")


def positive(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """Labels above 0.

    Args:
        name: The loss, for the message.
        outputs: Logarithms of means, not looked at.
        labels: Amounts.

    Raises:
        ModelspaceError: If a label is 0 or below.
    """
    wrong = ~(labels > 0)
    if bool(wrong.any()):
        fix = "'tweedie' allows zeros, 'least_squares' any number"
        raise breach(name, "labels above 0", labels, wrong, "are not", fix)


def not_negative(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """Labels of at least 0.

    Args:
        name: The loss, for the message.
        outputs: Logarithms of means, not looked at.
        labels: Amounts.

    Raises:
        ModelspaceError: If a label is below 0.
    """
    wrong = ~(labels >= 0)
    if bool(wrong.any()):
        fix = "'least_squares' or 'huber' allow any number"
        raise breach(name, "labels of at least 0", labels, wrong, "are not", fix)


def _within_unit(name: str, what: str, values: Shaped[Tensor, "..."], fix: str) -> None:
    outside = ~((values >= 0) & (values <= 1))
    if bool(outside.any()):
        raise breach(name, f"{what} between 0 and 1", values, outside, "are outside", fix)


def breach(
    name: str, expected: str, values: Shaped[Tensor, "..."], wrong: Bool[Tensor, "..."], they: str, fix: str
) -> ModelspaceError:
    """The error for values that are not what a loss expects: how many, the first of them, what to do.

    Args:
        name: The loss.
        expected: What it expects: ``"labels above 0"``.
        values: All of them.
        wrong: Which are others; at least one.
        they: What those are: ``"are not"``.
        fix: What to do.

    Returns:
        The error, to be raised by the caller.
    """
    return ModelspaceError(
        f"{name} expects {expected}: {int(wrong.sum())} of {values.numel()} {they} "
        f"(the first is {values[wrong][0].item():g}); {fix}"
    )
