"""A module to be measured: built where it costs nothing, from a class, a factory or a module."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from modelspace.construction import Architecture
from modelspace.errors import ModelspaceError
from modelspace.trace import MetaBuild


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
    if isinstance(source, nn.Module) and dtype is None and not _lazy(source):
        return source
    architecture = Architecture(source, hyperparameters or {}, input_shape, dtype, torch.float32)
    if not isinstance(source, nn.Module):
        with suppress(Exception), torch.random.fork_rng(devices=[]), MetaBuild():
            module = source(**architecture.hyperparameters)
            if isinstance(module, nn.Module) and not _lazy(module):
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


def _lazy(module: nn.Module) -> bool:
    return any(nn.parameter.is_lazy(t) for t in [*module.parameters(), *module.buffers()])
