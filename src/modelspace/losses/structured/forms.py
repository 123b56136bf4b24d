"""The shapes that structured losses take, told apart and refused by shape and dtype alone."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.losses.finite import wide
from modelspace.losses.multiclass.base import LEFT_OUT
from modelspace.losses.shapes import by_class, is_own, require_class_labels, require_same_shape


def require_masks(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """Refuse scores [N, …] with masks of another shape, or without a dimension of places.

    Args:
        name: The loss, for the message.
        outputs: Scores [N, …].
        labels: Masks [N, …].

    Raises:
        ModelspaceError: If the shapes differ or have one dimension.
    """
    require_same_shape(name, outputs, labels)
    if outputs.ndim < 2:
        raise ModelspaceError(
            f"{name} received masks of shape {list(outputs.shape)}: it compares the regions within each sample, "
            "so it expects [N, ...] with at least one dimension of places"
        )


def regions(
    name: str, outputs: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]
) -> tuple[Float[Tensor, "sample region place"], Float[Tensor, "sample region place"]]:
    """Soft regions and true ones: one a sample for masks, one a class for class maps.

    Args:
        name: The loss, for the message.
        outputs: Scores [N, …] with masks [N, …], or [N, C, …] with classes [N, …], told apart by the shapes.
        labels: Masks of 0 and 1, or classes; a class of −100 is left out: there both regions are 0.

    Returns:
        Probabilities and truth, float32 at least.

    Raises:
        ModelspaceError: If the shapes are neither.
    """
    z = wide(outputs)
    if not by_class(outputs, labels):
        require_masks(name, outputs, labels)
        return torch.sigmoid(z).flatten(1).unsqueeze(1), labels.to(z.dtype).flatten(1).unsqueeze(1)
    require_class_labels(name, outputs, labels)
    counted = (labels != LEFT_OUT).unsqueeze(1)
    soft = torch.softmax(z, 1) * counted
    truth = is_own(outputs, labels).to(z.dtype)
    shape = (*outputs.shape[:2], -1)
    return soft.reshape(shape), truth.reshape(shape)


def require_sets(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """Refuse anything but scores [N, C] and multi-hot labels [N, C].

    Args:
        name: The loss, for the message.
        outputs: Scores.
        labels: Multi-hot labels.

    Raises:
        ModelspaceError: If the shapes differ, or are not of two dimensions.
    """
    if outputs.ndim == 2 and labels.ndim == 1 and not labels.dtype.is_floating_point:
        raise ModelspaceError(
            f"{name} received labels of shape {list(labels.shape)}: it expects multi-hot labels "
            f"{list(outputs.shape)}, 1 for every class a sample has; one class each becomes that with "
            f"one_hot(labels, {outputs.shape[1]}), or use 'cross_entropy'"
        )
    require_same_shape(name, outputs, labels)
    if outputs.ndim != 2:
        raise ModelspaceError(
            f"{name} received outputs of shape {list(outputs.shape)}: it expects [N, C], a score for each class"
        )


def require_ranks(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """Refuse anything but cumulative logits [N, K − 1] and integer ranks [N].

    Args:
        name: The loss, for the message.
        outputs: Cumulative logits.
        labels: Ranks.

    Raises:
        ModelspaceError: If the shapes or the labels' dtype are others.
    """
    if outputs.ndim != 2 or labels.shape != outputs.shape[:1] or labels.dtype.is_floating_point:
        raise ModelspaceError(
            f"{name} received outputs of shape {list(outputs.shape)} and labels of shape {list(labels.shape)} "
            f"({labels.dtype}): it expects cumulative logits [N, K - 1] and integer ranks [N]"
        )


def require_groups(name: str, outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """Refuse anything but embeddings [N, D] and integer labels [N].

    Args:
        name: The loss, for the message.
        outputs: Embeddings.
        labels: What each sample is one of.

    Raises:
        ModelspaceError: If the shapes or the labels' dtype are others.
    """
    if outputs.ndim != 2 or labels.shape != outputs.shape[:1] or labels.dtype.is_floating_point:
        raise ModelspaceError(
            f"{name} received outputs of shape {list(outputs.shape)} and labels of shape {list(labels.shape)} "
            f"({labels.dtype}): it expects embeddings [N, D] and integer labels [N], the same for samples that "
            "belong together"
        )
