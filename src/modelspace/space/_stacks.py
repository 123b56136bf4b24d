"""Stacks: the points of members of one layout as one matrix, and their buffers beside it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from modelspace.nest import in_order


@dataclass(frozen=True)
class Stack:
    """Members whose points have the same blocks.

    Attributes:
        rows: Which members of the population they are, ascending.
        points: Their points.
        buffers: Each buffer, ``[c, *shape]``.
    """

    rows: Int64[np.ndarray, "member"]
    points: Shaped[Tensor, "member parameter"]
    buffers: dict[str, Tensor]

    @property
    def version(self) -> int:
        """Grows with every write into them."""
        return self.points._version + sum(value._version for value in self.buffers.values())

    def mapped(self, function: Callable[[Tensor], Tensor]) -> "Stack":
        """Return the same members, a function applied to each tensor."""
        return Stack(self.rows, function(self.points), {n: function(b) for n, b in self.buffers.items()})

    def at(self, rows: Iterable[int] | np.ndarray) -> np.ndarray:
        """Return where members of it stand in its tensors, from their rows in the population."""
        return np.searchsorted(self.rows, np.asarray(rows, dtype=np.int64))

    def take(self, rows: Iterable[int] | np.ndarray) -> "Stack":
        """Return members of it, by their rows in the population, as a stack of their own."""
        index = torch.from_numpy(self.at(rows)).to(self.points.device)
        return Stack(
            np.arange(len(index)), self.points[index], {n: b[index] for n, b in self.buffers.items()}
        )


def selected(stacks: Sequence[Stack], rows: np.ndarray) -> list[Stack]:
    """Return members in a given order, repeated perhaps, as stacks of a population that has them in this order."""
    if len(stacks) == 1:
        return [stacks[0].take(rows)]
    number = np.empty(1 + max((int(s.rows.max(initial=-1)) for s in stacks), default=-1), dtype=np.int64)
    for place, stack in enumerate(stacks):
        number[stack.rows] = place
    found = []
    for place, stack in enumerate(stacks):
        there = np.flatnonzero(number[rows] == place)
        if len(there):
            own = stack.take(rows[there])
            found.append(Stack(there, own.points, own.buffers))
    return found


def merged(parts: Iterable[tuple[np.ndarray, Tensor, Mapping[str, Tensor]]]) -> Stack:
    """Return members of one layout, given in parts, as one stack.

    Args:
        parts: Their rows, points and buffers.
    """
    given = list(parts)
    rows = np.concatenate([rows for rows, *_ in given])
    place = np.empty(len(rows), dtype=np.int64)
    place[np.argsort(rows, kind="stable")] = np.arange(len(rows))
    ends = np.cumsum([len(part) for part, *_ in given])[:-1]
    nests = [(points, dict(buffers)) for _, points, buffers in given]
    points, buffers = in_order(zip(np.split(place, ends), nests, strict=True))
    return Stack(np.sort(rows), points, buffers)
