"""What the shapes of outputs and labels must be, so that nothing broadcasts without a word.

Every test here reads shapes and dtypes only, never values, so a loss stays traceable (``vmap``, ``make_fx``).
"""

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from modelspace.errors import ModelspaceError


def require_same_shape(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """Refuse outputs and labels of different shapes, for a loss that compares them element by element.

    Args:
        name: The loss or metric that compares them, for the message.
        outputs: What the model returned.
        labels: What it should have returned.

    Raises:
        ModelspaceError: If the shapes differ; it names both, and the fix where one is a column.
    """
    if outputs.shape == labels.shape:
        return
    raise ModelspaceError(
        f"{name} received outputs of shape {list(outputs.shape)} and labels of shape {list(labels.shape)}: "
        f"it compares them element by element and does not broadcast; {_fix(outputs, labels)}"
    )


def require_class_labels(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """Refuse anything but scores [N, C, ...], C ≥ 2, with one integer label [N, ...] for each row of C.

    Args:
        name: The loss or metric that compares them, for the message.
        outputs: What the model returned.
        labels: The class of each sample.

    Raises:
        ModelspaceError: If the labels are not integers, the shapes don't match, or there is a single class.
    """
    if outputs.ndim < 2:
        raise ModelspaceError(
            f"{name} received outputs of shape {list(outputs.shape)} and labels of shape "
            f"{list(labels.shape)}: it expects outputs [N, C, ...] with one column for each of C classes"
        )
    if outputs.shape[1] == 1:
        raise single_column(name, outputs)
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
        f"{name} received outputs of shape {list(outputs.shape)} and labels of shape {list(labels.shape)}: "
        f"it expects labels of shape {list(expected)}; {fix}"
    )


def by_class(outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> bool:
    """Whether these are scores of several classes [N, C, ...] and integer labels without the class dimension."""
    whole = not labels.dtype.is_floating_point
    return whole and outputs.ndim == labels.ndim + 1 and outputs.shape[1] > 1


def is_own(
    outputs: Float[Tensor, "sample class *place"], labels: Shaped[Tensor, "sample *place"]
) -> Bool[Tensor, "sample class *place"]:
    """Whether a class is the label's own: one-hot labels, as booleans."""
    classes = torch.arange(outputs.shape[1], device=labels.device)
    return labels.unsqueeze(1) == classes.view(-1, *[1] * (labels.ndim - 1))


def single_column(name: str, outputs: Shaped[Tensor, "..."]) -> ModelspaceError:
    """The error for a softmax over one class, which is 1 whatever the model does.

    Args:
        name: The loss or metric, for the message.
        outputs: What the model returned, with one column.

    Returns:
        The error, to be raised by the caller.
    """
    return ModelspaceError(
        f"{name} received outputs of shape {list(outputs.shape)}: with a single column the softmax is "
        "always 1 and nothing can be learnt; give the model one output for each class, or, for two classes, "
        "use outputs.squeeze(1) with the logistic loss and labels ±1"
    )


def _fix(outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> str:
    if outputs.ndim == labels.ndim + 1 and outputs.shape[-1] == 1 and outputs.shape[:-1] == labels.shape:
        return "use outputs.squeeze(-1), or labels.unsqueeze(-1)"
    if labels.ndim == outputs.ndim + 1 and labels.shape[-1] == 1 and labels.shape[:-1] == outputs.shape:
        return "use labels.squeeze(-1)"
    if not labels.dtype.is_floating_point and labels.shape == outputs.shape[:1] + outputs.shape[2:]:
        return (
            "of classes as labels, use a loss of classes such as 'cross_entropy', or make the labels one-hot"
        )
    return "make the two shapes equal"
