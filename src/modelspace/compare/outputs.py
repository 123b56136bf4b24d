"""The outputs of many members on many samples, a piece at a time, so that memory is bounded."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from math import ceil

import torch
from torch import Tensor

from modelspace.engine import SCORED_AT_ONCE, Function, balanced, stacked_outputs, unbatched_outputs
from modelspace.population import Population
from modelspace.space import samples_as

MEMBERS = 32  # evaluated together
NUMBERS = 2**22  # of inputs or outputs that are held at once, at most

Piece = tuple[Tensor, Tensor]


def pieces_of(
    population: Population, rows: Sequence[int], inputs: Tensor, labels: Tensor
) -> Iterator[Iterator[Piece]]:
    """For some members at a time, their outputs on some samples at a time, with those samples' labels.

    Args:
        population: The members.
        rows: Which of them, by position.
        inputs: ``[samples, …]``, at least one.
        labels: ``[samples, …]``.

    Yields:
        An iterator of (outputs ``[members, samples, …]``, labels ``[samples, …]``), to be used up before the next.
    """
    if not rows:
        return
    parts = population.parts()
    if len(parts) > 1:
        place = {row: (part, k) for own, part in parts for k, row in enumerate(own.tolist())}
        for part, run in groupby(rows, key=lambda row: place[row][0]):
            yield from pieces_of(part, [place[row][1] for row in run], inputs, labels)
        return
    population = parts[0][1]
    device = population.device
    function = Function(population.space, device)
    inputs, labels = samples_as(inputs, population.space.dtype).to(device), labels.to(device)

    def outputs(members: Sequence[int], samples: Tensor, *, batched: bool) -> Tensor:
        at = torch.as_tensor(members, device=device)
        buffers = {name: value[at] for name, value in population.buffers.items()}
        return stacked_outputs(function, population.points[at], buffers, samples, batched=batched)

    first = inputs[:2]
    batched = unbatched_outputs(function, population[list(rows[:2])], first) is None
    one = outputs(rows[:1], first, batched=batched)
    shard = balanced(len(rows), MEMBERS)
    each = shard * max(one.numel(), first.numel()) // len(first)
    most = max(2, min(SCORED_AT_ONCE, NUMBERS // max(each, 1)))
    # Pieces of about one size: a last one of a single sample is what a network may squeeze away.
    piece = ceil(len(inputs) / ceil(len(inputs) / most))

    def of(members: Sequence[int]) -> Iterator[Piece]:
        for begin in range(0, len(inputs), piece):
            samples = slice(begin, begin + piece)
            yield outputs(members, inputs[samples], batched=batched), labels[samples]

    for start in range(0, len(rows), shard):
        yield of(rows[start : start + shard])
