"""What outputs and labels must be: their shapes, so that nothing broadcasts without a word, and then their values.

Checks of shapes (``require_…``) read shapes and dtypes only, so a loss that makes them stays traceable (``vmap``,
``make_fx``). Checks of values run once, on one real batch, before a fit. All take the name of the loss or metric for
their messages.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.nest import LEFT_OUT

Contract = Callable[[str, Tensor, Tensor], None]
Values = Shaped[Tensor, "..."]


def by_class(outputs: Values, labels: Values) -> bool:
    """Tell whether these are scores of several classes [N, C, ...] and integer labels without the class dimension."""
    whole = not labels.dtype.is_floating_point
    return whole and outputs.ndim == labels.ndim + 1 and outputs.shape[1] > 1


def is_own(
    outputs: Float[Tensor, "sample class *place"], labels: Shaped[Tensor, "sample *place"]
) -> Bool[Tensor, "sample class *place"]:
    """Make labels one-hot: whether a class is the label's own."""
    classes = torch.arange(outputs.shape[1], device=labels.device)
    return labels.unsqueeze(1) == classes.view(-1, *[1] * (labels.ndim - 1))


def that_count(labels: Values, left_out: int | None) -> Bool[Tensor, "..."] | None:
    """Tell which labels are others than the one that is left out; None where that can't be among them."""
    # A small unsigned number is compared modulo 256: 156 would be -100.
    unsigned = labels.dtype in (torch.uint8, torch.bool)
    return None if left_out is None or (left_out < 0 and unsigned) else labels != left_out


def leaves_some_out(labels: Values, left_out: int | None = LEFT_OUT) -> bool:
    """Tell whether some of the labels are the one that is left out."""
    counted = that_count(labels, left_out)
    return counted is not None and not bool(counted.all())


def received(name: str, outputs: Values, labels: Values) -> str:
    """Begin a message with the shapes of both."""
    return f"{name} received outputs of shape {list(outputs.shape)} and labels of shape {list(labels.shape)}"


def require_same_shape(name: str, outputs: Values, labels: Values) -> None:
    """Refuse outputs and labels of different shapes, for a loss that compares them element by element.

    Raises:
        ModelspaceError: If the shapes differ; it names both, and the fix where one is a column. If labels are complex
            and outputs are not.
    """
    if labels.is_complex() and not outputs.is_complex():
        raise ModelspaceError(
            f"{name} received outputs of dtype {outputs.dtype} and labels of dtype {labels.dtype}: it compares real "
            "numbers; use torch.view_as_real(labels), or a function of (outputs, labels)"
        )
    if outputs.shape == labels.shape:
        return
    if outputs.ndim == labels.ndim + 1 and outputs.shape[-1] == 1 and outputs.shape[:-1] == labels.shape:
        fix = "use outputs.squeeze(-1), or labels.unsqueeze(-1)"
    elif labels.ndim == outputs.ndim + 1 and labels.shape[-1] == 1 and labels.shape[:-1] == outputs.shape:
        fix = "use labels.squeeze(-1)"
    elif not labels.dtype.is_floating_point and labels.shape == outputs.shape[:1] + outputs.shape[2:]:
        fix = (
            "of classes as labels, use a loss of classes such as 'cross_entropy', or make the labels one-hot"
        )
    else:
        fix = "make the two shapes equal"
    raise ModelspaceError(
        f"{received(name, outputs, labels)}: it compares them element by element and does not broadcast; {fix}"
    )


def require_class_labels(name: str, outputs: Values, labels: Values) -> None:
    """Refuse anything but scores [N, C, ...], C ≥ 2, with one integer label [N, ...] for each row of C.

    Raises:
        ModelspaceError: If the labels are not integers, the shapes don't match, or there is a single class.
    """
    if outputs.ndim < 2:
        raise ModelspaceError(
            f"{received(name, outputs, labels)}: it expects outputs [N, C, ...] with one column for each of C classes"
        )
    require_columns(name, outputs)
    if labels.dtype.is_floating_point or labels.dtype.is_complex:
        raise ModelspaceError(
            f"{name} received labels of dtype {labels.dtype}: it expects integer class labels; "
            "use labels.long() if they hold class numbers"
        )
    expected = outputs.shape[:1] + outputs.shape[2:]
    if labels.shape == expected:
        return
    if labels.shape == outputs.shape:
        fix = "one-hot labels become classes with labels.argmax(1)"
    elif labels.ndim == outputs.ndim and labels.shape[1] == 1:
        fix = "use labels.squeeze(1)"
    else:
        fix = "give one label for each sample"
    raise ModelspaceError(
        f"{received(name, outputs, labels)}: it expects labels of shape {list(expected)}; {fix}"
    )


def require_columns(name: str, outputs: Values) -> None:
    """Refuse a softmax over one class, which is 1 whatever the model does."""
    if outputs.ndim < 2 or outputs.shape[1] == 1:
        raise ModelspaceError(
            f"{name} received outputs of shape {list(outputs.shape)}: with a single column the softmax is "
            "always 1 and nothing can be learnt; give the model one output for each class, or, for two classes, "
            "use outputs.squeeze(1) with the logistic loss and labels ±1"
        )


def refuse(name: str, expected: str, values: Values, wrong: Bool[Tensor, "..."], they: str, fix: str) -> None:
    """Raise where values are wrong: how many, the first of them, what to do.

    Args:
        name: The loss.
        expected: What it expects: ``"labels above 0"``.
        values: All of them.
        wrong: Which are others.
        they: What those are: ``"are not"``.
        fix: What to do.
    """
    if bool(wrong.any()):
        raise ModelspaceError(
            f"{name} expects {expected}: {int(wrong.sum())} of {values.numel()} {they} "
            f"(the first is {values[wrong][0].item():g}); {fix}"
        )


def anything(name: str, outputs: Values, labels: Values) -> None:
    """Refuse no values: the contract of a function of the user's own."""


def class_labels(name: str, outputs: Values, labels: Values, left_out: int | None = None) -> None:
    """Refuse anything but integer labels [N, ...] in [0, C), or the one that is left out, for scores [N, C, ...].

    Raises:
        ModelspaceError: If a label is negative or not below C (how many are, and the extreme one), or if
            the labels' dtype or shape is not that of class labels.
    """
    require_class_labels(name, outputs, labels)
    labels = kept(labels, left_out)
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
            f"renumber the labels, or leave them out with ignore_index={int(labels.min())}"
        )


def class_maps(name: str, outputs: Values, labels: Values) -> None:
    """Refuse anything but classes in [0, C), or −100 for what is left out, for outputs [N, C, …]."""
    class_labels(name, outputs, labels, LEFT_OUT)


def kept(labels: Values, left_out: int | None) -> Values:
    """Put some label, which every coding has, in the place of those that are left out."""
    counted = that_count(labels, left_out)
    return labels if counted is None else labels.masked_fill(~counted, 1)


def plus_minus_one(name: str, outputs: Values, labels: Values) -> None:
    """Refuse labels that are neither +1 nor −1.

    Raises:
        ModelspaceError: If one is another; with the recoding where they are 0 and 1.
    """
    zero_one = bool(((labels == 0) | (labels == 1)).all())
    fix = (
        "labels in {0, 1} become ±1 with 2 * labels - 1" if zero_one else "code the two classes as +1 and -1"
    )
    refuse(name, "labels +1 and -1", labels, (labels != 1) & (labels != -1), "labels are neither", fix)


def zero_one(name: str, outputs: Values, labels: Values) -> None:
    """Refuse labels that are neither 0 nor 1: of masks, and of label sets."""
    if bool(((labels == 1) | (labels == -1)).all()):
        fix = "labels ±1 become {0, 1} with (labels + 1) / 2"
    elif bool(((labels == 0) | (labels == 255)).all()):
        fix = "images of 0 and 255 become masks with labels / 255"
    elif bool(((labels > 0) & (labels < 1)).any()):
        fix = "cut probabilities at 1/2, labels > 0.5, or use 'binary_cross_entropy_with_logits', which takes them"
    else:
        fix = "code what belongs as 1 and what doesn't as 0"
    refuse(name, "labels 0 and 1", labels, (labels != 0) & (labels != 1), "labels are neither", fix)


def within_unit(name: str, what: str, values: Values, fix: str) -> None:
    """Refuse values outside [0, 1], NaN among them."""
    outside = ~((values >= 0) & (values <= 1))
    refuse(name, f"{what} between 0 and 1", values, outside, "are outside", fix)


def unit_labels(name: str, outputs: Values, labels: Values) -> None:
    """Refuse labels outside [0, 1]: two classes as 0 and 1, or the probability of class 1."""
    within_unit(name, "labels", labels, "labels ±1 become {0, 1} with (labels + 1) / 2")


def probabilities(name: str, outputs: Values, labels: Values) -> None:
    """Refuse outputs and labels outside [0, 1]."""
    fix = "end the model in a sigmoid, or use 'binary_cross_entropy_with_logits' on scores"
    within_unit(name, "outputs", outputs, fix)
    unit_labels(name, outputs, labels)


def counts(name: str, outputs: Values, labels: Values) -> None:
    """Refuse labels below 0."""
    smallest = labels.min().item()
    if smallest < 0:
        raise ModelspaceError(f"{name} expects counts, at least 0, and the smallest label is {smallest:g}")
