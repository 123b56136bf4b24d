"""Convolution with one kernel a member: as matrix products, or as a grouped convolution.

The products: the windows of the input are laid out as the columns of a matrix (im2col) and multiplied, by all
members' kernels in one product where the input is shared, member by member in one batched product where it is not.
The batch is kept as the innermost axis in memory, so that windows are copied in long runs and no layer transposes: on
a net of two convolutions, 1.5 times as fast as with the channels innermost, and 3 times as with the usual layout.

The grouped convolution is what ``vmap`` makes of it, and the library's own: slower on small images on most machines,
several times as fast where the columns do not fit into the cache (``convolution_choice``).
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from modelspace.engine.lowerings.batched import batched
from modelspace.engine.lowerings.convolution_choice import grouped_is_faster
from modelspace.engine.lowerings.products import matrix_product
from modelspace.engine.lowerings.windows import windows


def _convolution(function: Callable[..., Tensor], spatial: int) -> Callable[..., Tensor]:
    """The lowering of one of ``F.conv1d``, ``F.conv2d``, ``F.conv3d``."""

    def rule(count: int, *pairs: tuple[Any, bool]) -> Tensor | None:
        (x, own), (w, stacked), (b, own_bias) = pairs[:3]
        stride, padding, dilation, groups = (value for value, _ in pairs[3:])
        if not stacked or groups != 1:
            return None
        if grouped_is_faster(x, w, own, stride, padding, dilation):
            return None
        outputs, inner = w.shape[1], w[0, 0].numel()
        batch = 1 if own else 0
        planes = x.movedim(batch, -1).contiguous()
        if any(padding):
            planes = F.pad(planes, [0, 0, *(edge for pad in reversed(padding) for edge in (pad, pad))])
        views, size = windows(planes, batch + 1, w.shape[3:], stride, dilation)
        columns = torch.stack(views, dim=batch + 1)
        if own:
            out = matrix_product(w.reshape(count, outputs, inner), columns.reshape(count, inner, -1))
        else:
            out = matrix_product(w.reshape(-1, inner), columns.reshape(inner, -1)).view(count, outputs, -1)
        if b is not None:
            out = out + (b[:, :, None] if own_bias else b[None, :, None])
        return out.view(count, outputs, *size, -1).movedim(-1, 1)

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


def _each(value: Any, count: int) -> tuple[int, ...]:
    return (value,) * count if isinstance(value, int) else tuple(value) * (count if len(value) == 1 else 1)


TABLE: Mapping[Callable[..., Any], Callable[..., Any]] = {
    torch.conv1d: _convolution(torch.conv1d, 1),
    torch.conv2d: _convolution(torch.conv2d, 2),
    torch.conv3d: _convolution(torch.conv3d, 3),
}
