"""Activation checkpoints (``torch.utils.checkpoint``), computed as if the part of the network were not one.

Under ``vmap`` checkpoints fail; and their second forward, in the backward, would draw other random numbers and find
other parameters in the module. The numbers are the same without, and a shard of small networks needs no checkpoint.
(A BatchNorm inside one updates its statistics once a step here, where plain PyTorch does so in both forwards.)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils import checkpoint as torch_s


class _NoCheckpoint:
    @staticmethod
    def apply(function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        return function(*args)


def _no_checkpoint(*args: Any, **kwargs: Any) -> Iterator[None]:
    yield


@contextmanager
def without_checkpoints() -> Iterator[None]:
    """Within the block, ``checkpoint(f, …)`` is ``f(…)``, however it was imported."""
    before: tuple[Any, Any] = torch_s.CheckpointFunction, torch_s._checkpoint_without_reentrant_generator
    ours: tuple[Any, Any] = _NoCheckpoint, _no_checkpoint
    torch_s.CheckpointFunction, torch_s._checkpoint_without_reentrant_generator = ours
    try:
        yield
    finally:
        torch_s.CheckpointFunction, torch_s._checkpoint_without_reentrant_generator = before
