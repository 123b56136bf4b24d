"""What a module holds: numbers by coordinate, tie, module, class and type; nothing is run."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from modelspace.trace import stored


@dataclass(frozen=True)
class Counts:
    """Numbers and bytes of a module's parameters and buffers; a tied tensor counts once.

    Attributes:
        trainable: Parameters that get a gradient: the coordinates of the space.
        frozen: Parameters that get none.
        buffers: Elements of the buffers; of a sparse one those that it stores.
        tied: Each further name of a tied parameter or buffer, with the name that counts.
        by_module: Parameters of each module itself, without its submodules', under the name that counts.
        by_kind: Parameters by the class of the module that holds them.
        parameter_bytes: Bytes of the parameters by type.
        buffer_bytes: Bytes of the buffers by type.
    """

    trainable: int
    frozen: int
    buffers: int
    tied: dict[str, str]
    by_module: dict[str, int]
    by_kind: dict[str, int]
    parameter_bytes: dict[torch.dtype, int]
    buffer_bytes: dict[torch.dtype, int]

    @property
    def parameters(self) -> int:
        """Trainable and frozen ones."""
        return self.trainable + self.frozen


def counts(module: nn.Module) -> Counts:
    """Count what a module holds, on any device, meta included.

    Args:
        module: Any module without lazy parameters.

    Example:
        >>> held = counts(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)))
        >>> held.trainable, held.buffers, held.by_kind
        (21, 7, {'Linear': 15, 'BatchNorm1d': 6})
    """
    by_module: Counter[str] = Counter()
    by_kind: Counter[str] = Counter()
    trainable = frozen = 0
    seen: set[nn.Parameter] = set()
    for name, layer in module.named_modules():
        for parameter in layer.parameters(recurse=False):
            if parameter in seen:
                continue
            seen.add(parameter)
            by_module[name] += parameter.numel()
            by_kind[type(layer).__name__] += parameter.numel()
            if parameter.requires_grad:
                trainable += parameter.numel()
            else:
                frozen += parameter.numel()
    tied = {
        **_ties(module.named_parameters(remove_duplicate=False)),
        **_ties(module.named_buffers(remove_duplicate=False)),
    }
    buffers = list(module.buffers())
    return Counts(
        trainable=trainable,
        frozen=frozen,
        buffers=sum(stored(buffer)[-1].numel() for buffer in buffers),
        tied=tied,
        by_module=dict(by_module),
        by_kind=dict(by_kind),
        parameter_bytes=_bytes(seen),
        buffer_bytes=_bytes(buffers),
    )


def _ties(named: Iterable[tuple[str, Tensor]]) -> dict[str, str]:
    first: dict[int, str] = {}
    tied = {}
    for name, tensor in named:
        known = first.setdefault(id(tensor), name)
        if known != name:
            tied[name] = known
    return tied


def _bytes(tensors: Iterable[Shaped[Tensor, "..."]]) -> dict[torch.dtype, int]:
    found: Counter[torch.dtype] = Counter()
    for tensor in tensors:
        for part in stored(tensor):
            found[part.dtype] += part.numel() * part.element_size()
    return dict(found)
