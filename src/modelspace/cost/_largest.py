"""The largest batch, and the largest shard of a population, that a memory holds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from modelspace.cost._anatomy import smallest_batch
from modelspace.cost._memory import StepMemory, training_memory
from modelspace.errors import ModelspaceError

_MOST = 2**24


@dataclass(frozen=True)
class LargestBatch:
    """The largest batch whose step fits, checked on both sides.

    Attributes:
        batch_size: Samples.
        peak_bytes: The step's peak at that batch.
        next_peak_bytes: The peak with one sample more, which does not fit; None where the search ended before that.
        traces: How many steps were traced.
    """

    batch_size: int
    peak_bytes: int
    next_peak_bytes: int | None
    traces: int


@dataclass(frozen=True)
class LargestShard:
    """The most members of a population whose step fits, from one member's step.

    Attributes:
        members: Members, at least 1.
        member_bytes: What each adds: its point, gradient, state, activations and temporaries.
        shared_bytes: What all of them share: the batch.
    """

    members: int
    member_bytes: int
    shared_bytes: int


def largest_batch(
    module: nn.Module,
    memory: int,
    input_shape: tuple[int, ...] | None = None,
    *,
    optimizer: Any = "adam",
    precision: str | int = "32",
    input_dtype: torch.dtype = torch.float32,
    inputs: Callable[[int], Any] | None = None,
    kwargs: Callable[[int], Mapping[str, Any]] | None = None,
    loss: Callable[[Any], torch.Tensor] | None = None,
) -> LargestBatch:
    """The largest batch whose training step stays within a memory.

    The peak is a maximum of straight lines, so the search guesses along the last line and halves where that fails;
    it ends with a step traced at the answer and one at the answer plus one.

    Args:
        module: Any module.
        memory: Bytes.
        input_shape: One sample's shape, for a module of one input.
        optimizer: See `training_memory`.
        precision: See `training_memory`.
        input_dtype: The batch's type.
        inputs: Instead of ``input_shape``, a function that gives the batch of so many samples, in the structure of
            `anatomy`: a tuple is the positional arguments, anything else is the one argument. A tensor that it makes
            in memory takes as much as it is large; a `Spec` takes none.
        kwargs: A function that gives the keyword arguments of so many samples.
        loss: See `training_memory`.

    Raises:
        ModelspaceError: no batch fits, the step fails, or ``inputs`` or ``kwargs`` is no function or fails.

    Example:
        >>> found = largest_batch(nn.Linear(100, 100, bias=False), 10**6, (100,), optimizer="sgd")
        >>> found.peak_bytes <= 10**6 < found.next_peak_bytes
        True
        >>> pairs = lambda size: (torch.zeros(size, 4), torch.zeros(size, 5))
        >>> largest_batch(nn.Bilinear(4, 5, 3), 10**6, inputs=pairs).next_peak_bytes > 10**6
        True
    """
    traced: dict[int, int] = {}
    for name, given in (("inputs", inputs), ("kwargs", kwargs)):
        if given is not None and not callable(given):
            raise ModelspaceError(
                f"{name} is a {type(given).__name__}, which has one size: the largest batch of "
                f"{type(module).__name__} needs a function of the size, {name}=lambda size: …"
            )

    def peak(size: int) -> int:
        if size not in traced:
            traced[size] = training_memory(
                module,
                input_shape,
                optimizer=optimizer,
                precision=precision,
                batch_size=size,
                input_dtype=input_dtype,
                inputs=_of_size("inputs", inputs, size),
                kwargs=_of_size("kwargs", kwargs, size),
                loss=loss,
            ).peak_bytes
        return traced[size]

    def fitting(size: int) -> int:
        peak(size)
        return size

    low = smallest_batch(fitting)
    if peak(low) > memory:
        raise ModelspaceError(
            f"a step of {type(module).__name__} on {low} sample{'s' * (low > 1)} takes {peak(low):,} bytes and "
            f"{memory:,} are given: give more, or a smaller model, precision or optimizer state"
        )
    high = low
    while peak(high) <= memory:
        low = high
        if low >= _MOST:
            return LargestBatch(low, peak(low), None, len(traced))
        high = min(_MOST, max(2 * low, min(64 * low, _on_line(traced, memory) + 1)))
    while high - low > 1:
        guess = min(max(_on_line(traced, memory), low + 1), high - 1)
        if peak(guess) <= memory:
            low = guess
        else:
            high = guess
        middle = (low + high) // 2
        if low < middle and high - low > 8:
            low, high = (middle, high) if peak(middle) <= memory else (low, middle)
    return LargestBatch(low, peak(low), peak(high), len(traced))


def _of_size(name: str, make: Callable[[int], Any] | None, size: int) -> Any:
    if make is None:
        return None
    try:
        return make(size)
    except Exception as error:
        raise ModelspaceError(f"{name}({size}) failed: {type(error).__name__}: {error}") from error


def _on_line(traced: dict[int, int], memory: int) -> int:
    """The batch at which the line through the two largest batches that fit, or one that does and one not, ends."""
    fitting = sorted(size for size, bytes in traced.items() if bytes <= memory)
    above = sorted(size for size, bytes in traced.items() if bytes > memory)
    a, b = (fitting[-1], above[0]) if above else (fitting[-2:] if len(fitting) > 1 else (0, fitting[-1]))
    start = traced.get(a, 0)
    slope = (traced[b] - start) / (b - a)
    return a + int((memory - start) / slope) if slope > 0 else 2 * b


def largest_population(
    module: nn.Module,
    memory: int,
    input_shape: tuple[int, ...],
    *,
    optimizer: Any = "adam",
    batch_size: int = 1,
    input_dtype: torch.dtype = torch.float32,
) -> LargestShard:
    """The most members that can be trained at once within a memory, estimated from one member's step.

    Every member has its own point, gradient, state and activations; the batch is shared. It is an estimate: a fit
    measures the step that it will really make before it chooses its shards.

    Args:
        module: Any module of one input.
        memory: Bytes.
        input_shape: One sample's shape.
        optimizer: See `training_memory`; give one of this library for the memory of a fit.
        batch_size: Samples in the batch.
        input_dtype: The batch's type.

    Raises:
        ModelspaceError: not one member fits, or the step fails.

    Example:
        >>> largest_population(nn.Linear(100, 10, bias=False), 10**6, (100,), optimizer="sgd").members
        124
    """
    found: StepMemory = training_memory(
        module, input_shape, optimizer=optimizer, batch_size=batch_size, input_dtype=input_dtype
    )
    shared = found.by_kind.get("inputs", 0)
    each = found.peak_bytes - shared
    members = (memory - shared) // each if each else 0
    if members < 1:
        raise ModelspaceError(
            f"one member of {type(module).__name__} takes {found.peak_bytes:,} bytes on a batch of {batch_size} and "
            f"{memory:,} are given: give more, or a smaller batch"
        )
    return LargestShard(members, each, shared)
