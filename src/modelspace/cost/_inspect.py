"""``inspect``: what an architecture holds, does and costs, measured where building and running it cost nothing."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from modelspace.construction import Architecture, Made, Source, is_lazy, made_of, title_of
from modelspace.cost._anatomy import Anatomy, anatomy, on_values, smallest_batch
from modelspace.cost._inspection import Inspection
from modelspace.cost._largest import LargestBatch, largest_batch
from modelspace.cost._memory import training_memory
from modelspace.cost._roofline import time_bound
from modelspace.cost._sample import Sample, sample_of, shape_of
from modelspace.errors import ModelspaceError
from modelspace.trace import MetaBuild, Spec


def inspect(
    source: Source,
    input_shape: tuple[int, ...] | Spec | Tensor | None = None,
    *,
    batch_size: int | None = None,
    dtype: torch.dtype | None = None,
    input_dtype: torch.dtype | None = None,
    optimizer: str | None = None,
    precision: str | int | None = None,
    memory: int | None = None,
    hardware: str | None = None,
    **hyperparameters: Any,
) -> Inspection:
    """Measure an architecture; nothing is allocated, and nothing of it is changed.

    Args:
        source: A class, a factory, a module, a space, or a target: ``"net.py:Net"``, ``"torchvision:resnet18"``.
        input_shape: One sample's shape without the batch; guessed where None, which the record says. For a forward
            that reads values a `Spec` with ``below`` gives integers to draw, a tensor the samples themselves.
        batch_size: Samples that cost and memory are for; 1 where None, or 2 where BatchNorm refuses one.
        dtype: Cast the module to this floating-point type; as built where None.
        input_dtype: The samples' type; where None the module's own, or integers where only these run.
        optimizer: Trace a whole training step with ``"sgd"``, ``"momentum"``, ``"adam"``, ``"adamw"``,
            ``"rmsprop"``, ``"nadam"``, …, for its memory.
        precision: The number format of that step, as ``fit`` names it: ``32``, the module's own type, ``64``,
            ``tf32``, ``bf16-mixed``, ``16-mixed``; also ``bf16-true`` and ``16-true``. Adam's step where no
            optimizer is named.
        memory: Bytes for which the largest batch of that step is looked for.
        hardware: The least time of the pass by the published peaks of a device: ``"a100"``, ``"h100"``,
            ``"rtx4090"``, ``"t4"`` and others, or ``"here"``.
        **hyperparameters: The architecture's own arguments.

    Raises:
        ModelspaceError: it can't be built, its input can't be guessed, or the pass fails.

    Example:
        >>> found = inspect(nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)))
        >>> found.dimension, str(found.sample), found.anatomy.forward_flops
        (2410, '64', 4736)
    """
    if batch_size is not None and batch_size < 1:
        raise ModelspaceError(f"batch_size must be at least 1; received {batch_size}")
    if input_shape is None and isinstance(source, Made):
        input_shape = getattr(source, "input_shape", None)
    made, hyperparameters = made_of(source, hyperparameters)
    title = title_of(made, hyperparameters)

    def measured(module: nn.Module) -> Inspection:
        sample = sample_of(module, input_shape, input_dtype)
        found = passed(module, sample, batch_size)
        bound = None if hardware is None else time_bound(found, hardware)
        if optimizer is None and precision is None and memory is None:
            return Inspection(title, sample, found, bound=bound)
        chosen, kind = optimizer or "adam", str(precision or 32)
        return Inspection(
            title,
            sample,
            found,
            chosen,
            kind,
            training_memory(module, optimizer=chosen, precision=kind, **sample.batch(found.batch_size)),
            None if memory is None else _largest(module, sample, memory, chosen, kind),
            bound,
        )

    shape = shape_of(input_shape)
    return on_values(
        built(made, hyperparameters, input_shape=shape, dtype=dtype),
        lambda: with_values(made, hyperparameters, input_shape=shape, dtype=dtype),
        measured,
        lambda found: found.anatomy.computed,
    )


def passed(module: nn.Module, sample: Sample, batch_size: int | None) -> Anatomy:
    """The record of a forward and backward, on the smallest batch that trains where none is given."""
    if batch_size is None:
        return smallest_batch(lambda size: anatomy(module, **sample.batch(size)))
    return anatomy(module, **sample.batch(batch_size))


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


def built(
    source: nn.Module | Callable[..., nn.Module],
    hyperparameters: Mapping[str, Any] | None = None,
    *,
    input_shape: tuple[int, ...] | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """The module without memory for its values; with memory where its constructor reads them.

    Unlike a space it may have no trainable parameter, or parameters of several types.

    Args:
        source: A class, a factory, or a module, which is given back as it is (a copy where it must be cast or is
            lazy).
        hyperparameters: The arguments of the class or factory.
        input_shape: One sample's shape, from which lazy layers learn theirs.
        dtype: The floating-point type to cast it to; as built where None.

    Raises:
        ModelspaceError: arguments are missing or unknown, or building fails.

    Example:
        >>> built(nn.Linear, {"in_features": 10**6, "out_features": 10**6}).weight.is_meta
        True
    """
    if isinstance(source, nn.Module) and dtype is None and not is_lazy(source):
        return source
    architecture = Architecture(source, hyperparameters or {}, input_shape, dtype, torch.float32)
    if not isinstance(source, nn.Module):
        with suppress(Exception), torch.random.fork_rng(devices=[]), MetaBuild():
            module = source(**architecture.hyperparameters)
            if isinstance(module, nn.Module) and not is_lazy(module):
                return module if dtype is None else module.to(dtype)
    try:
        return architecture.on_meta()
    except ModelspaceError:
        raise
    except Exception as error:
        raise ModelspaceError(
            f"{architecture.name} can't be built: {type(error).__name__}: {error}"
        ) from error


def with_values(
    source: nn.Module | Callable[..., nn.Module],
    hyperparameters: Mapping[str, Any] | None = None,
    *,
    input_shape: tuple[int, ...] | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """The module in memory, with the values of seed 0 or those of the module given; see `built`."""
    return Architecture(source, hyperparameters or {}, input_shape, dtype, torch.float32).as_given()
