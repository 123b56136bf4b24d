"""What the values of label sets, masks, ranks, groups and a teacher's outputs must be."""

import torch
from jaxtyping import Shaped
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.losses.contracts import breach, class_labels
from modelspace.losses.shapes import by_class
from modelspace.losses.structured.forms import require_groups, require_ranks, require_sets


def zero_one(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """Labels of 0 and 1.

    Args:
        name: The loss, for the message.
        outputs: Scores, of any value.
        labels: Masks, or multi-hot labels.

    Raises:
        ModelspaceError: If a label is neither 0 nor 1.
    """
    wrong = (labels != 0) & (labels != 1)
    if not bool(wrong.any()):
        return
    if bool(((labels == 1) | (labels == -1)).all()):
        fix = "labels ±1 become {0, 1} with (labels + 1) / 2"
    elif bool(((labels == 0) | (labels == 255)).all()):
        fix = "images of 0 and 255 become masks with labels / 255"
    elif bool(((labels > 0) & (labels < 1)).any()):
        fix = "cut probabilities at 1/2, labels > 0.5, or use 'binary_cross_entropy_with_logits', which takes them"
    else:
        fix = "code what belongs as 1 and what doesn't as 0"
    raise breach(name, "labels 0 and 1", labels, wrong, "labels are neither", fix)


def multi_hot(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """Labels [N, C] of 0 and 1, 1 for every class that a sample has.

    Args:
        name: The loss, for the message.
        outputs: Scores [N, C].
        labels: Multi-hot labels [N, C].

    Raises:
        ModelspaceError: If the shapes differ, or a label is neither 0 nor 1.
    """
    require_sets(name, outputs, labels)
    zero_one(name, outputs, labels)


def masks_or_classes(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """Masks of 0 and 1 of the outputs' shape; or a map of classes in [0, C) for outputs [N, C, …].

    Args:
        name: The loss, for the message.
        outputs: Scores.
        labels: Masks, or class maps; −100 in a class map is left out.

    Raises:
        ModelspaceError: If a label is none of these.
    """
    if by_class(outputs, labels):
        class_maps(name, outputs, labels)
    else:
        zero_one(name, outputs, labels)


def class_maps(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """Classes in [0, C), or −100 for what is left out, for outputs [N, C, …].

    Args:
        name: The loss, for the message.
        outputs: Scores [N, C, …].
        labels: Classes [N, …].

    Raises:
        ModelspaceError: If a label is none of these.
    """
    class_labels(name, outputs, labels.masked_fill(labels == -100, 0))


def ranks(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """Ranks 0 … K − 1 for K − 1 outputs a sample.

    Args:
        name: The loss, for the message.
        outputs: Cumulative logits [N, K − 1].
        labels: Ranks [N].

    Raises:
        ModelspaceError: If a rank is negative or above K − 1.
    """
    require_ranks(name, outputs, labels)
    highest = outputs.shape[1]
    wrong = (labels < 0) | (labels > highest)
    if bool(wrong.any()):
        largest = max(int(labels.max()), 1)
        raise ModelspaceError(
            f"{name} expects ranks from 0 to {highest}, one more than its {highest} outputs: {int(wrong.sum())} of "
            f"{labels.numel()} labels are others (the first is {labels[wrong][0].item()}); give the model "
            f"{largest} outputs for ranks up to {largest}, or number the ranks from 0"
        )


def groups(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """Integer labels of which some are the same.

    Args:
        name: The loss, for the message.
        outputs: Embeddings [N, D].
        labels: What each sample is one of, [N].

    Raises:
        ModelspaceError: If no two labels are the same: nothing would count.
    """
    require_groups(name, outputs, labels)
    if len(torch.unique(labels)) == len(labels):
        raise ModelspaceError(
            f"{name} received {len(labels)} labels, no two of them the same: it draws samples of one label together, "
            "and without any it is 0; use larger batches, or batches that hold each label at least twice"
        )


def teacher(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """Labels that are a teacher's logits.

    Args:
        name: The loss, for the message.
        outputs: The student's logits [N, C].
        labels: The teacher's logits [N, C].

    Raises:
        ModelspaceError: If they are class labels, probabilities, or not finite.
    """
    if not labels.dtype.is_floating_point:
        raise ModelspaceError(
            f"{name} received labels of dtype {labels.dtype}: it expects a teacher's logits, {list(outputs.shape)}; "
            "use 'cross_entropy' for class labels"
        )
    if not bool(labels.isfinite().all()):
        raise ModelspaceError(
            f"{name} expects finite logits of the teacher: {int((~labels.isfinite()).sum())} are not"
        )
    sums = labels.sum(1) if labels.ndim > 1 else labels
    if bool((labels >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all()):
        raise ModelspaceError(
            f"{name} expects a teacher's logits, and the labels are probabilities that sum to 1: give labels.log(), "
            "or use 'cross_entropy', which takes probabilities"
        )
