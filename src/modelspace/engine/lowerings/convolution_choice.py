"""Which form of a convolution is faster: products of columns, or the library's grouped convolution.

Both are tried once for each shape, forward and backward, on a few members. The columns are tried as a compiled step
computes them, in which laying them out and adding them up again each read and write memory once. Measured on an
AVX-512 machine in compiled steps, grouped against columns: 16 channels of 32×32, 4.7 times as fast; 64 of 14×14, 3.1
times; 16 of 8×8, 1.3 times; 128 of 14×14 and 256 of 7×7, 0.9 times; one by one kernels, 0.55 times.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from modelspace.engine.lowerings.trials import gain, seconds
from modelspace.engine.lowerings.windows import windows

_CLEARLY = 1.5  # the trial does not see what the layout of the columns saves in the layers between
# Members of a trial, and the most bytes of their columns: the trial takes less than a second. A GPU is filled by
# hundreds only, and until then every way takes as long.
_CPU, _GPU = (4, 2**26), (256, 2**30)
Sizes = tuple[int, ...]


def grouped_is_faster(
    x: Tensor, w: Tensor, own: bool, stride: Sizes, padding: Sizes, dilation: Sizes
) -> bool:
    """Whether members' convolutions are better computed as one grouped convolution.

    Args:
        x: ``[batch, channels, …]``, with a member axis first where members have their own.
        w: ``[member, outputs, channels, …]``.
        own: Whether members have their own inputs.
        stride: One number for each spatial axis.
        padding: One number for each spatial axis.
        dilation: One number for each spatial axis.
    """
    # Shapes without values stand for what will run on the CPU: a prediction of memory has to choose as the run does.
    device = torch.device("cpu") if x.device.type == "meta" else x.device
    if device.type not in ("cpu", "cuda"):
        return False
    image, kernel = x.shape[own:], w.shape[1:]
    positions = math.prod(-(-size // step) for size, step in zip(image[2:], stride, strict=True))
    columns = w[0, 0].numel() * image[0] * positions * x.element_size()
    enough, most = _CPU if device.type == "cpu" else _GPU
    members = min(enough, most // columns)
    if members == 0:
        # Columns of one member that fit into no cache; of kernels of one place they are the image.
        return math.prod(kernel[2:]) > 1
    shape = f"{tuple(image)} {tuple(kernel)} {stride} {padding} {dilation}"
    name = f"convolution of {'own' if own else 'shared'} {shape}, {x.dtype} on {device.type}"

    def trial() -> tuple[float, float]:
        like = {"dtype": x.dtype, "device": device}
        images = torch.ones(*([members] if own else []), *image, **like)
        kernels = torch.ones(members, *kernel, **like)
        return _columns(images, kernels, own, stride, padding, dilation), _grouped(
            images, kernels, own, stride, padding, dilation
        )

    return gain(name, trial) > _CLEARLY


def _columns(x: Tensor, w: Tensor, own: bool, stride: Sizes, padding: Sizes, dilation: Sizes) -> float:
    planes = F.pad(x.movedim(int(own), -1), [0, 0, *(p for pad in reversed(padding) for p in (pad, pad))])
    places, outputs = w.shape[3:], w.shape[1]

    def lay_out() -> Tensor:
        return torch.stack(windows(planes, int(own) + 1, places, stride, dilation)[0], dim=int(own) + 1)

    inner = w[0, 0].numel()
    columns = lay_out().reshape(*([len(w)] if own else []), inner, -1)
    rows = w.reshape(len(w), outputs, inner) if own else w.reshape(-1, inner)
    g = rows @ columns
    weight = min(seconds(lambda: g @ columns.mT), seconds(lambda: columns @ g.mT))
    once = seconds(lay_out)
    return once + seconds(lambda: rows @ columns) + weight + own * (once + seconds(lambda: rows.mT @ g))


def _grouped(x: Tensor, w: Tensor, own: bool, stride: Sizes, padding: Sizes, dilation: Sizes) -> float:
    groups, none = (len(w) if own else 1), [0] * len(stride)
    kernels = w.flatten(0, 1)

    def images() -> Tensor:
        return x.movedim(0, 1).flatten(1, 2) if own else x

    def forward() -> Tensor:
        return torch.convolution(images(), kernels, None, stride, padding, dilation, False, none, groups)

    g, flat = forward(), images()

    def backward() -> object:
        wanted = [own, True, False]
        return torch.ops.aten.convolution_backward(
            g, flat, kernels, None, stride, padding, dilation, False, none, groups, wanted
        )

    return seconds(forward) + seconds(backward)
