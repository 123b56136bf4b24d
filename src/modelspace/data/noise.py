"""Label noise: a share of the training labels replaced by other ones, each member's own."""

import numpy as np
import torch
from jaxtyping import Float64, Int64, Shaped
from torch import Tensor

from modelspace.data.randomness import generator
from modelspace.errors import ModelspaceError
from modelspace.nest import LEFT_OUT, WeightedLabels

_KEY = 1  # within a seed's numbers: the data order has taken key 0 and those that follow an epoch's number


def noisy_labels(
    labels: Shaped[Tensor, "sample *place"],
    shares: Float64[Tensor, "member"],
    seeds: Int64[Tensor, "member"],
    classes: int | None,
) -> Shaped[Tensor, "member sample *place"]:
    """Symmetric label noise: each label is replaced, with the member's probability, by another one.

    Which labels are replaced, and by what, is a function of the member's seed: members of one seed have one noise
    whatever else differs, and what a smaller share replaces a larger one replaces too.

    Args:
        labels: Integers in [0, C); or floats of two values, ±1 or 0 and 1, which are exchanged.
        shares: In [0, 1]; at (C − 1)/C the labels say nothing any more.
        seeds: The members' seeds.
        classes: C, where labels are integers.

    Returns:
        Labels of the same dtype, one set a member.

    Raises:
        ModelspaceError: If the labels are neither classes nor two values.

    Example:
        >>> labels = torch.arange(1000) % 10
        >>> shares = torch.tensor([0.0, 0.2], dtype=torch.float64)
        >>> (noisy_labels(labels, shares, torch.tensor([0, 0]), 10) != labels).double().mean(1)
        tensor([0.0000, 0.2090], dtype=torch.float64)

    Source:
        Angluin & Laird, "Learning from noisy examples", Machine Learning 2, 1988.
    """
    if isinstance(labels, WeightedLabels):
        raise ModelspaceError(
            "label_noise replaces labels that have weights: leave the column or weights= out"
        )
    exchanged = _exchange(labels, classes)

    def other(number: Tensor) -> Tensor:  # what is left out stays so
        return torch.where(labels == LEFT_OUT, labels, exchanged(number))

    found = []
    for share, seed in zip(shares.tolist(), seeds.tolist(), strict=True):
        numbers = generator(seed, _KEY, 0).random((2, labels.numel()))
        uniform, choice = (torch.from_numpy(row).view(labels.shape).to(labels.device) for row in numbers)
        found.append(torch.where(uniform < share, other(choice), labels))
    return torch.stack(found)


def _exchange(labels: Tensor, classes: int | None):
    """What stands in another label's place, as a function of a number in [0, 1)."""
    values = np.unique(labels[labels != LEFT_OUT].cpu().numpy())
    if classes is not None and classes > 1 and not labels.is_floating_point() and values.min(initial=0) >= 0:
        return lambda number: (labels + 1 + (number * (classes - 1)).to(labels.dtype)) % classes
    if set(values.tolist()) <= {-1, 1}:
        return lambda number: -labels
    if set(values.tolist()) <= {0, 1}:
        return lambda number: 1 - labels
    raise ModelspaceError(
        "label_noise replaces class labels, ±1, or 0 and 1: these labels are quantities, so leave the column out"
    )
