"""Convolution with one kernel a member: as matrix products, or as a grouped convolution.

The products: the windows of the input are laid out as the columns of a matrix (im2col) and multiplied, by all
members' kernels in one product where the input is shared, member by member in one batched product where it is not.
The batch is kept as the innermost axis in memory, so that windows are copied in long runs and no layer transposes: on
a net of two convolutions, 1.5 times as fast as with the channels innermost, and 3 times as with the usual layout.

The grouped convolution is what ``vmap`` makes of it, and the library's own: slower on small images on most machines,
several times as fast where the columns do not fit into the cache. Both are tried once for each shape, forward and
backward, on a few members. The columns are tried as a compiled step computes them, in which laying them out and
adding them up again each read and write memory once. Measured on an AVX-512 machine in compiled steps, grouped
against columns: 16 channels of 32×32, 4.7 times as fast; 64 of 14×14, 3.1 times; 16 of 8×8, 1.3 times; 128 of 14×14
and 256 of 7×7, 0.9 times; one by one kernels, 0.55 times.
"""

import math
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from modelspace.engine.lowerings.batched import Function, Pair, Table, batched
from modelspace.engine.lowerings.linear import matrix_product
from modelspace.engine.measurements import gain, seconds_of

Sizes = tuple[int, ...]

_CLEARLY = 1.5  # the trial does not see what the layout of the columns saves in the layers between
# Members of a trial, and the most bytes of their columns: the trial takes less than a second. A GPU is filled by
# hundreds only, and until then every way takes as long.
_CPU, _GPU = (4, 2**26), (256, 2**30)


def convolution(
    function: Function,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """One of ``F.conv1d``, ``F.conv2d``, ``F.conv3d``, which is the first argument."""
    spatial = weight.dim() - 2
    if input.dim() == spatial + 1:
        return convolution(function, input[None], weight, bias, stride, padding, dilation, groups)[0]
    steps, gaps = _each(stride, spatial), _each(dilation, spatial)
    if isinstance(padding, str):
        reach = [gap * (size - 1) for gap, size in zip(gaps, weight.shape[2:], strict=True)]
        sides = [(0, 0) if padding == "valid" else (r // 2, r - r // 2) for r in reach]
        if any(left != right for left, right in sides):
            edges = [edge for side in reversed(sides) for edge in side]
            return convolution(function, F.pad(input, edges), weight, bias, stride, 0, dilation, groups)
        padding = tuple(left for left, _ in sides)
    return batched(function, _rule, input, weight, bias, steps, _each(padding, spatial), gaps, groups)


def _each(value: Any, count: int) -> Sizes:
    return (value,) * count if isinstance(value, int) else tuple(value) * (count if len(value) == 1 else 1)


def _rule(count: int, *pairs: Pair) -> Tensor | None:
    (x, stacked), (w, own_weight), (b, own_bias) = pairs[:3]
    stride, padding, dilation, groups = (value for value, _ in pairs[3:])
    if not own_weight or groups != 1 or grouped_is_faster(x, w, stacked, stride, padding, dilation):
        return None
    outputs, inner, batch = w.shape[1], w[0, 0].numel(), int(stacked)
    planes = x.movedim(batch, -1).contiguous()
    if any(padding):
        planes = F.pad(planes, _edges(padding))
    columns, size = _columns(planes, batch, w.shape[3:], stride, dilation)
    if stacked:
        out = matrix_product(w.reshape(count, outputs, inner), columns.reshape(count, inner, -1))
    else:
        out = matrix_product(w.reshape(-1, inner), columns.reshape(inner, -1)).view(count, outputs, -1)
    if b is not None:
        out = out + (b[:, :, None] if own_bias else b[None, :, None])
    return out.view(count, outputs, *size, -1).movedim(-1, 1)


def _edges(padding: Sizes) -> list[int]:
    return [0, 0, *(edge for pad in reversed(padding) for edge in (pad, pad))]


def _columns(x: Tensor, channel: int, kernel: Sizes, stride: Sizes, dilation: Sizes) -> tuple[Tensor, Sizes]:
    """Lay out what lies under a kernel of a size at every position of a padded input.

    ``x`` has its spatial axes after the channel's. Returned are views of it for the places of the kernel, in its
    elements' order, stacked on the axis after the channel's; and their spatial size.
    """
    first = channel + 1
    extents = x.shape[first : first + len(kernel)]
    size = tuple(
        (extent - gap * (k - 1) - 1) // step + 1
        for extent, k, step, gap in zip(extents, kernel, stride, dilation, strict=True)
    )
    views = []
    for place in product(*map(range, kernel)):
        cut = tuple(
            slice(o * gap, o * gap + step * (n - 1) + 1, step)
            for o, gap, step, n in zip(place, dilation, stride, size, strict=True)
        )
        views.append(x[(*[slice(None)] * first, *cut)])
    return torch.stack(views, dim=first), size


def grouped_is_faster(
    x: Tensor, w: Tensor, stacked: bool, stride: Sizes, padding: Sizes, dilation: Sizes
) -> bool:
    """Tell whether members' convolutions are better computed as one grouped convolution.

    ``w`` is ``[member, outputs, channels, …]``, ``x`` is ``[batch, channels, …]`` with a member axis first where it
    is ``stacked``, and the others have one number for each spatial axis.
    """
    # Shapes without values stand for what will run on the CPU: a prediction of memory has to choose as the run does.
    device = torch.device("cpu") if x.device.type == "meta" else x.device
    if device.type not in ("cpu", "cuda"):
        return False
    image, kernel = x.shape[stacked:], w.shape[1:]
    positions = math.prod(-(-size // step) for size, step in zip(image[2:], stride, strict=True))
    columns = w[0, 0].numel() * image[0] * positions * x.element_size()
    enough, most = _CPU if device.type == "cpu" else _GPU
    members = min(enough, most // columns)
    if members == 0:
        # Columns of one member that fit into no cache; of kernels of one place they are the image.
        return math.prod(kernel[2:]) > 1

    def trial() -> tuple[float, float]:
        like = {"dtype": x.dtype, "device": device}
        images = torch.ones(*([members] if stacked else []), *image, **like)
        kernels = torch.ones(members, *kernel, **like)
        settings = stacked, stride, padding, dilation
        return _seconds_of_columns(images, kernels, *settings), _seconds_of_groups(images, kernels, *settings)

    shape = f"{tuple(image)} {tuple(kernel)} {stride} {padding} {dilation}"
    name = f"convolution of {'own' if stacked else 'shared'} {shape}, {x.dtype} on {device.type}"
    return gain(name, trial) > _CLEARLY


def _seconds_of_columns(
    x: Tensor, w: Tensor, stacked: bool, stride: Sizes, padding: Sizes, dilation: Sizes
) -> float:
    planes = F.pad(x.movedim(int(stacked), -1), _edges(padding))

    def lay_out() -> Tensor:
        return _columns(planes, int(stacked), w.shape[3:], stride, dilation)[0]

    outputs, inner = w.shape[1], w[0, 0].numel()
    columns = lay_out().reshape(*([len(w)] if stacked else []), inner, -1)
    rows = w.reshape(len(w), outputs, inner) if stacked else w.reshape(-1, inner)
    g = rows @ columns
    weight = min(seconds_of(lambda: g @ columns.mT), seconds_of(lambda: columns @ g.mT))
    once = seconds_of(lay_out)
    inputs = once + seconds_of(lambda: rows.mT @ g) if stacked else 0.0
    return once + seconds_of(lambda: rows @ columns) + weight + inputs


def _seconds_of_groups(
    x: Tensor, w: Tensor, stacked: bool, stride: Sizes, padding: Sizes, dilation: Sizes
) -> float:
    groups, none = (len(w) if stacked else 1), [0] * len(stride)
    kernels = w.flatten(0, 1)

    def images() -> Tensor:
        return x.movedim(0, 1).flatten(1, 2) if stacked else x

    def forward() -> Tensor:
        return torch.convolution(images(), kernels, None, stride, padding, dilation, False, none, groups)

    g, flat = forward(), images()

    def backward() -> object:
        wanted = [stacked, True, False]
        return torch.ops.aten.convolution_backward(
            g, flat, kernels, None, stride, padding, dilation, False, none, groups, wanted
        )

    return seconds_of(forward) + seconds_of(backward)


TABLE: Table = {f: partial(convolution, f) for f in (torch.conv1d, torch.conv2d, torch.conv3d)}
