"""The layout of ℝⁿ: which coordinates are which parameter."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from modelspace.errors import ModelspaceError


@dataclass(frozen=True)
class Block:
    """One parameter's place among the coordinates: ``p[start:stop].view(shape)``."""

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def size(self) -> int:
        """How many coordinates the block has."""
        return self.stop - self.start


@dataclass(frozen=True)
class Layout:
    """The coordinate blocks of a space, in the order of ``named_parameters()``.

    Attributes:
        blocks: One for each trainable parameter; a tied parameter has one, under its first name.
        tied: The other names of tied parameters, each with the first name.
        dtype: The one floating-point type of all coordinates.
    """

    blocks: tuple[Block, ...]
    tied: Mapping[str, str]
    dtype: torch.dtype

    @property
    def dimension(self) -> int:
        """n, the number of coordinates."""
        return self.blocks[-1].stop if self.blocks else 0

    def __iter__(self) -> Iterator[Block]:
        return iter(self.blocks)

    def __len__(self) -> int:
        return len(self.blocks)

    def views(self, points: Shaped[Tensor, "*batch parameter"]) -> dict[str, Tensor]:
        """Each parameter as a view of the points: shape ``[*batch, *block.shape]``, nothing copied."""
        lead = points.shape[:-1]
        return {b.name: points[..., b.start : b.stop].view((*lead, *b.shape)) for b in self.blocks}


def layout_of(module: nn.Module) -> Layout:
    """The layout of a module's trainable parameters.

    Raises:
        ModelspaceError: the module has no trainable parameter, or they are of several floating-point types.
    """
    first_name = {id(p): name for name, p in module.named_parameters()}
    tied = {
        name: first_name[id(p)]
        for name, p in module.named_parameters(remove_duplicate=False)
        if first_name[id(p)] != name and p.requires_grad
    }
    blocks: list[Block] = []
    start = 0
    dtypes: dict[torch.dtype, str] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        shape = tuple(parameter.shape)
        blocks.append(Block(name, shape, start, start + prod(shape)))
        start += prod(shape)
        dtypes.setdefault(parameter.dtype, name)
    if not blocks:
        raise ModelspaceError(
            f"{type(module).__name__} has no trainable parameter: its space is a single function, "
            "so there is nothing to sample or fit"
        )
    if len(dtypes) > 1:
        found = ", ".join(f"{name} is {dtype}" for dtype, name in dtypes.items())
        raise ModelspaceError(f"the coordinates must be of one type, but {found}; cast the module with .to()")
    return Layout(tuple(blocks), tied, next(iter(dtypes)))


def differences(
    given: Mapping[str, Tensor],
    blocks: Mapping[str, tuple[int, ...]],
    skeleton: nn.Module,
    shared: Mapping[str, Tensor],
    tied: Mapping[str, str],
) -> list[str]:
    """Say in what tensors are not those of a point; nothing where they are.

    Args:
        given: The tensors by name.
        blocks: The shape of each tensor that a point has to have.
        skeleton: The module whose point it would be.
        shared: Its frozen parameters, which are the same in all points.
        tied: The other names of tied parameters, each with the first.
    """
    aliases = {name for name, _ in skeleton.named_parameters(remove_duplicate=False)}
    known = blocks.keys() | aliases | {name for name, _ in skeleton.named_buffers(remove_duplicate=False)}
    problems = [f"it has no {name}" for name in blocks if name not in given]
    problems += [
        f"{name} is {tuple(given[name].shape)} where {shape} is expected"
        for name, shape in blocks.items()
        if name in given and tuple(given[name].shape) != shape
    ]
    problems += [f"{name} is unknown here" for name in given if name not in known]
    problems += [
        f"frozen parameter {name} differs from the one that this space shares"
        for name, value in shared.items()
        if name in given and not torch.equal(given[name].detach().to(value.device), value)
    ]
    problems += [
        f"tied parameters {alias} and {name} hold different values"
        for alias, name in tied.items()
        if alias in given and name in given and not torch.equal(given[alias], given[name])
    ]
    return problems
