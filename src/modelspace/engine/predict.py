"""The outputs of every member on given inputs."""

from collections.abc import Iterator
from math import ceil
from typing import Any

import torch

from modelspace.data import Split
from modelspace.engine.evaluate import SCORED_AT_ONCE, members_at_once, probe
from modelspace.engine.function import Function, stacked_outputs
from modelspace.engine.witness import unbatched_outputs
from modelspace.errors import ModelspaceError, the_users_told
from modelspace.memory import free_bytes
from modelspace.nest import Nest, in_order, mapped_together, on, samples, take, tensors
from modelspace.population import Population
from modelspace.progress import progress
from modelspace.show import bytes_text
from modelspace.space import samples_as


@the_users_told()
def predict(population: Population, inputs: Any, *, batch_size: int = SCORED_AT_ONCE) -> Nest:
    """Compute the outputs of every member, in evaluation mode.

    Args:
        population: K members.
        inputs: ``[N, …]``, a tensor or a nest, as the model takes it; or a ``Split`` of the data, whose inputs are
            taken.
        batch_size: Samples computed at once. A network whose outputs depend on the samples beside one, in evaluation,
            gives what it gives for such batches.

    Returns:
        ``[K, N, …]``, on the CPU; of a model with several outputs, their tensors in a dict or tuple of such.

    Raises:
        ModelspaceError: the inputs do not fit, or the outputs have no room in memory.

    Example:
        >>> import modelspace as ms
        >>> from modelspace.examples import DummyNet
        >>> population = ms.ModelSpace(DummyNet).sample(seeds=4)
        >>> ms.predict(population, ms.data.digits_7x7().test).shape
        torch.Size([4, 359, 10])
    """
    given = inputs.inputs if isinstance(inputs, Split) else inputs
    given = on(population.device, samples_as(given, population.space.dtype))
    count, members = samples(given), len(population)
    if not count or not members:
        raise ModelspaceError(f"{members} members and {count} samples: there is nothing to predict")
    few = probe(population.module(0), take(given, slice(min(2, count))))
    size = members * count * sum(part[:1].nbytes for part in tensors(few))
    if size > free_bytes(torch.device("cpu")):
        raise ModelspaceError(
            f"the outputs of {members:,} members for {count:,} samples take {bytes_text(size)}, and "
            f"{bytes_text(free_bytes(torch.device('cpu')))} are free: give some of the members, or of the samples"
        )
    with progress(f"predicting with {members:,} members", members, "members") as advance:
        return in_order(
            [(rows, _outputs(part, given, batch_size, advance)) for rows, part in population.parts()]
        )


def _outputs(population: Population, inputs: Nest, batch_size: int, advance: Any) -> Nest:
    rows = []
    for some, pieces in walked(population, inputs, batch_size):
        rows.append(
            mapped_together(lambda *x: torch.cat(x, 1), *(on("cpu", outputs) for _, outputs in pieces))
        )
        advance(some.stop - some.start)
    return mapped_together(lambda *x: torch.cat(x), *rows)


def walked(
    population: Population, inputs: Nest, batch_size: int
) -> Iterator[tuple[slice, Iterator[tuple[slice, Nest]]]]:
    """Walk over the outputs of members of one program, some members and a piece of the samples at a time.

    Args:
        population: The members.
        inputs: A nest of ``[samples, …]``, on their device.
        batch_size: The most samples of a piece.

    Yields:
        Which members; and which samples, with the members' outputs for them.
    """
    function, count = Function(population.space, population.device), samples(inputs)
    piece = ceil(count / ceil(count / batch_size))
    shard, together = members_at_once(population, piece)
    batched = together and unbatched_outputs(function, population, inputs) is None

    def outputs(some: Population) -> Iterator[tuple[slice, Nest]]:
        for begin in range(0, count, piece):
            part = slice(begin, min(begin + piece, count))
            given = take(inputs, part)
            yield part, stacked_outputs(function, some.points, some.buffers, given, batched=batched)

    for start in range(0, len(population), shard):
        rows = slice(start, min(start + shard, len(population)))
        yield rows, outputs(population[rows])
