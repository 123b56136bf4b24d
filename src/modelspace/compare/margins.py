"""Margins: by how much scores are right, and how they are distributed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.losses import by_class

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
_BARS = 40


@dataclass(frozen=True)
class Margins:
    """The distribution of the margin over samples, averaged over members; its unit is the scores' own.

    Attributes:
        quantiles: At 5, 25, 50, 75 and 95 %, each the mean of the members' own.
        below_zero: Share of margins below 0, the mean over members: what is classified wrongly.
        edges: Ends of the histogram's bars, ascending; what lies beyond either end is counted in the last bar there.
        counts: Samples in each bar, all members together.
    """

    quantiles: tuple[float, ...]
    below_zero: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]


def margins_of(
    outputs: Float[Tensor, "member sample *output"], labels: Shaped[Tensor, "sample *place"]
) -> Float[Tensor, "member prediction"]:
    """The margin of each prediction: the true class's score minus the largest other; y z for labels y = ±1.

    Args:
        outputs: Scores of several members: ``[M, N, C, …]`` with integer labels ``[N, …]``, else ``[M, N, …]``.
        labels: Classes, or ±1 of the shape of one member's outputs.

    Returns:
        In double precision, the places of a sample (pixels) side by side.

    Raises:
        ModelspaceError: labels that are neither.

    Example:
        >>> margins_of(torch.tensor([[[0.5, 2.0, 0.0]]]), torch.tensor([1]))
        tensor([[1.5000]], dtype=torch.float64)
    """
    z = outputs.double()
    if of_classes(outputs[0], labels):
        index = labels.long().expand(len(z), *labels.shape).unsqueeze(2)
        own = z.gather(2, index)
        others = z.scatter(2, index, -torch.inf).amax(2, keepdim=True)
        return (own - others).flatten(1)
    if outputs.shape[1:] == labels.shape and bool((labels.abs() == 1).all()):
        return (z * labels.double()).flatten(1)
    raise _no_classes(labels, f"outputs of shape {list(outputs.shape[1:])} and ")


def right_of(
    outputs: Float[Tensor, "member sample *output"], labels: Shaped[Tensor, "sample *place"]
) -> Bool[Tensor, "member prediction"]:
    """Whether each prediction is right, as the accuracy counts it: the first largest score's class, or the sign."""
    if of_classes(outputs[0], labels):
        return (outputs.argmax(2) == labels).flatten(1)
    return (outputs * labels.to(outputs.dtype) > 0).flatten(1)


def require_classes(labels: Shaped[Tensor, "sample *place"]) -> None:
    """Refuse labels that are neither integers nor ±1.

    Raises:
        ModelspaceError: they are neither.
    """
    if labels.dtype.is_floating_point and not bool((labels.abs() == 1).all()):
        raise _no_classes(labels)


def _no_classes(labels: Tensor, outputs: str = "") -> ModelspaceError:
    return ModelspaceError(
        "losses are compared as classifiers: outputs [N, C, …] with integer labels of C ≥ 2 classes, or outputs of "
        f"the labels' shape with labels ±1; received {outputs}labels of shape {list(labels.shape)} "
        f"({str(labels.dtype).removeprefix('torch.')})"
    )


def of_classes(outputs: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> bool:
    """Whether these are scores of several classes and integer labels."""
    return labels.dtype != torch.bool and by_class(outputs, labels)


class MarginTally:
    """Adds up what `Margins` holds, some members at a time: nothing of a member is kept but its quantiles.

    The histogram's bars span the first members' margins between their 0.5 and 99.5 % quantiles, and 0.
    """

    def __init__(self) -> None:
        self._quantiles: list[np.ndarray] = []
        self._below: list[np.ndarray] = []
        self._edges: np.ndarray | None = None
        self._counts = np.zeros(_BARS, dtype=np.int64)

    def add(self, margins: Float[Tensor, "member prediction"]) -> None:
        """Take in some members' margins."""
        values = margins.cpu().numpy()
        self._quantiles.append(np.quantile(values, LEVELS, axis=1).T)
        self._below.append((values < 0).mean(axis=1))
        if self._edges is None:
            self._edges = _edges(values)
        held = np.clip(values, self._edges[0], self._edges[-1])
        self._counts += np.histogram(held, self._edges)[0]

    def result(self) -> Margins | None:
        """What was found; None of no member."""
        if self._edges is None:
            return None
        return Margins(
            _floats(np.concatenate(self._quantiles).mean(axis=0)),
            float(np.concatenate(self._below).mean()),
            _floats(self._edges),
            tuple(self._counts.tolist()),
        )


def _edges(values: np.ndarray) -> np.ndarray:
    low, high = np.quantile(values, [0.005, 0.995])
    low, high = min(low, 0.0), max(high, 0.0)
    if not high > low:
        low, high = -0.5, 0.5
    # An edge at 0, so that no bar holds both right and wrong.
    width = (high - low) / (_BARS - 1)
    return (np.arange(_BARS + 1) - np.ceil(-low / width)) * width


def _floats(values: Sequence[float] | np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
