"""Convolution with one kernel a member, as matrix products.

``vmap`` turns it into a grouped convolution, which CPU libraries do badly. Here the windows of the input are laid
out as columns (im2col) and multiplied: by all members' kernels in one product where the input is shared, member by
member in one batched product where it is not.
"""

from collections.abc import Callable, Mapping
from itertools import product
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from modelspace.engine.lowerings.batched import batched


def _convolution(function: Callable[..., Tensor], spatial: int) -> Callable[..., Tensor]:
    """The lowering of one of ``F.conv1d``, ``F.conv2d``, ``F.conv3d``."""

    def rule(count: int, *pairs: tuple[Any, bool]) -> Tensor | None:
        (x, own), (w, stacked), (b, own_bias) = pairs[:3]
        stride, padding, dilation, groups = (value for value, _ in pairs[3:])
        if not stacked or groups != 1:
            return None
        outputs = w.shape[1]
        columns, size = windows(x, w.shape[-spatial:], stride, padding, dilation)
        if own:
            out = w.reshape(count, outputs, -1) @ columns
        else:
            out = (w.reshape(count * outputs, -1) @ columns).view(count, outputs, -1)
        if b is not None:
            out = out + (b[:, :, None] if own_bias else b[None, :, None])
        return out.view(count, outputs, -1, *size).transpose(1, 2).contiguous()

    convolution = batched(function, rule)

    def lowered(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        if input.dim() == spatial + 1:
            return lowered(input[None], weight, bias, stride, padding, dilation, groups)[0]
        steps = _each(stride, spatial)
        gaps = _each(dilation, spatial)
        if isinstance(padding, str):
            reach = [gap * (size - 1) for gap, size in zip(gaps, weight.shape[2:], strict=True)]
            sides = [(0, 0) if padding == "valid" else (r // 2, r - r // 2) for r in reach]
            if any(left != right for left, right in sides):
                edges = [edge for side in reversed(sides) for edge in side]
                return lowered(F.pad(input, edges), weight, bias, stride, 0, dilation, groups)
            padding = tuple(left for left, _ in sides)
        return convolution(input, weight, bias, steps, _each(padding, spatial), gaps, groups)

    return lowered


def windows(
    x: Float[Tensor, "..."],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[Float[Tensor, "*members window column"], tuple[int, ...]]:
    """Every window that the kernel visits, as a column.

    Returns:
        The columns, shape ``[*members, channel · kernel size, batch · output size]``, and the output's size.
    """
    spatial = len(kernel)
    if any(padding):
        x = F.pad(x, [edge for pad in reversed(padding) for edge in (pad, pad)])
    lead = x.dim() - spatial - 2
    size = tuple(
        (extent - gap * (k - 1) - 1) // step + 1
        for extent, k, step, gap in zip(x.shape[-spatial:], kernel, stride, dilation, strict=True)
    )
    views = []
    for offset in product(*map(range, kernel)):
        cut = tuple(
            slice(o * gap, o * gap + step * (n - 1) + 1, step)
            for o, gap, step, n in zip(offset, dilation, stride, size, strict=True)
        )
        views.append(x[(..., *cut)])
    # [*members, batch, channel, kernel, *size] -> [*members, channel, kernel, batch, *size]
    stacked = torch.stack(views, dim=-spatial - 1).movedim(lead, lead + 2)
    members = x.shape[:lead]
    return stacked.reshape(*members, x.shape[lead + 1] * prod(kernel), x.shape[lead] * prod(size)), size


def _each(value: Any, count: int) -> tuple[int, ...]:
    return (value,) * count if isinstance(value, int) else tuple(value) * (count if len(value) == 1 else 1)


TABLE: Mapping[Callable[..., Any], Callable[..., Any]] = {
    torch.conv1d: _convolution(torch.conv1d, 1),
    torch.conv2d: _convolution(torch.conv2d, 2),
    torch.conv3d: _convolution(torch.conv3d, 3),
}
