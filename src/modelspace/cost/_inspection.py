"""``inspect``: an architecture measured before anything is trained, as one frozen record."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from typing import Any

import torch
from torch import Tensor, nn

from modelspace.construction import title_of
from modelspace.cost._anatomy import Anatomy, anatomy, on_values, smallest_batch
from modelspace.cost._batch import Sample, floating
from modelspace.cost._build import built, with_values
from modelspace.cost._counts import Counts
from modelspace.cost._guess import guessed
from modelspace.cost._largest import LargestBatch, largest_batch
from modelspace.cost._memory import StepMemory, training_memory
from modelspace.cost._roofline import TimeBound, time_bound
from modelspace.cost._tree import Node, tree
from modelspace.errors import ModelspaceError
from modelspace.trace import Spec, WithoutValues


@dataclass(frozen=True)
class Inspection:
    """What an architecture holds, does and costs.

    Attributes:
        title: The architecture's name with its arguments.
        sample: One sample of its inputs, and whether it was guessed.
        anatomy: The record of one forward and backward.
        optimizer: The optimizer of the step whose memory was traced; None where none was.
        precision: The number format of that step.
        memory: The memory of that step; None where none was traced.
        largest: The largest batch for a memory; None where none was asked for.
        bound: The least time of the pass on a device; None where none was named.
    """

    title: str
    sample: Sample
    anatomy: Anatomy
    optimizer: str | None = None
    precision: str = "as built"
    memory: StepMemory | None = None
    largest: LargestBatch | None = None
    bound: TimeBound | None = None

    @property
    def counts(self) -> Counts:
        """What the module holds."""
        return self.anatomy.counts

    @property
    def dimension(self) -> int:
        """n, the trainable parameters; a tied one counts once."""
        return self.counts.trainable

    @cached_property
    def tree(self) -> Node:
        """The pass as a tree of calls, alike ones folded."""
        return tree(self.anatomy, None if self.memory is None else self.memory.by_module)

    def __repr__(self) -> str:
        from modelspace.cost._text import text

        return text(self)

    def _repr_html_(self) -> str:
        from modelspace.cost._text import text

        return f"<pre>{escape(text(self))}</pre>"


def inspect(
    source: nn.Module | Callable[..., nn.Module],
    input_shape: tuple[int, ...] | Spec | Tensor | None = None,
    *,
    batch: int | None = None,
    dtype: torch.dtype | None = None,
    input_dtype: torch.dtype | None = None,
    optimizer: str | None = None,
    precision: str | None = None,
    memory: int | None = None,
    device: str | None = None,
    **hyperparameters: Any,
) -> Inspection:
    """Measure an architecture; nothing is allocated, and nothing of it is changed.

    Args:
        source: A class, a factory or a module.
        input_shape: One sample's shape without the batch; guessed where None, which the record says. For a forward
            that reads values a `Spec` with ``below`` gives integers to draw, a tensor the samples themselves.
        batch: Samples that cost and memory are for; 1 where None, or 2 where BatchNorm refuses one.
        dtype: Cast the module to this floating-point type; as built where None.
        input_dtype: The samples' type; where None the module's own, or integers where only these run.
        optimizer: Trace a whole training step with ``"sgd"``, ``"momentum"``, ``"adam"``, ``"adamw"`` or
            ``"rmsprop"``, for its memory.
        precision: The number format of that step, ``"bfloat16 mixed"`` and others; Adam's step where no optimizer is
            named.
        memory: Bytes for which the largest batch of that step is looked for.
        device: A device, ``"a100"``, or ``"here"``, for which the pass's least time is told.
        **hyperparameters: The architecture's own arguments.

    Raises:
        ModelspaceError: it can't be built, its input can't be guessed, or the pass fails.

    Example:
        >>> found = inspect(nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)))
        >>> found.dimension, str(found.sample), found.anatomy.forward_flops
        (2410, '64', 4736)
    """
    if batch is not None and batch < 1:
        raise ModelspaceError(f"batch must be at least 1; received {batch}")
    title = title_of(source, hyperparameters)

    def measured(module: nn.Module) -> Inspection:
        sample = sample_of(module, input_shape, input_dtype)
        found = passed(module, sample, batch)
        bound = None if device is None else time_bound(found, device)
        if optimizer is None and precision is None and memory is None:
            return Inspection(title, sample, found, bound=bound)
        chosen, kind = optimizer or "adam", precision or "as built"
        return Inspection(
            title,
            sample,
            found,
            chosen,
            kind,
            training_memory(module, optimizer=chosen, precision=kind, **sample.batch(found.batch)),
            None if memory is None else _largest(module, sample, memory, chosen, kind),
            bound,
        )

    shape = shape_of(input_shape)
    return on_values(
        built(source, hyperparameters, input_shape=shape, dtype=dtype),
        lambda: with_values(source, hyperparameters, input_shape=shape, dtype=dtype),
        measured,
        lambda found: found.anatomy.computed,
    )


def shape_of(given: tuple[int, ...] | Spec | Tensor | None) -> tuple[int, ...] | None:
    """One sample's shape; None where none is given.

    Raises:
        ModelspaceError: samples are given, and there are none.
    """
    if isinstance(given, Tensor):
        if given.ndim == 0 or not len(given):
            raise ModelspaceError(
                f"samples are a tensor [samples, …] with one or more of them; received shape {list(given.shape)}"
            )
        return tuple(given.shape[1:])
    return given.shape if isinstance(given, Spec) else given


def sample_of(
    module: nn.Module,
    input_shape: tuple[int, ...] | Spec | Tensor | None,
    input_dtype: torch.dtype | None,
) -> Sample:
    """The sample of the given shape, its type found out where it isn't given; a guess where no shape is."""
    if input_shape is None:
        return guessed(module)
    if isinstance(input_shape, Spec):
        return Sample((input_shape,))
    if isinstance(input_shape, Tensor):
        plain = floating(module) if input_shape.is_floating_point() else input_shape.dtype
        values = input_shape.to(input_dtype or plain)
        return Sample((Spec(tuple(values.shape[1:]), values.dtype),), values=values)
    if input_dtype is not None:
        return Sample((Spec(tuple(input_shape), input_dtype),))
    plain = Sample((Spec(tuple(input_shape), floating(module)),))
    if any(isinstance(layer, nn.Embedding | nn.EmbeddingBag) for layer in module.modules()):
        tokens = Sample((Spec(tuple(input_shape), torch.long),))
        for sample in (tokens, plain):
            try:
                anatomy(module, backward=False, **sample.batch(2))
            except WithoutValues:
                raise
            except ModelspaceError:
                continue
            return sample
    return plain


def passed(module: nn.Module, sample: Sample, batch: int | None) -> Anatomy:
    """The record of a forward and backward, on the smallest batch that trains where none is given."""
    if batch is None:
        return smallest_batch(lambda size: anatomy(module, **sample.batch(size)))
    return anatomy(module, **sample.batch(batch))


def _largest(module: nn.Module, sample: Sample, memory: int, optimizer: str, precision: str) -> LargestBatch:
    shapes = replace(sample, values=None)
    return largest_batch(
        module,
        memory,
        optimizer=optimizer,
        precision=precision,
        inputs=lambda size: shapes.batch(size)["inputs"],
        kwargs=lambda size: shapes.batch(size)["kwargs"],
    )
