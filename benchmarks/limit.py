"""The machine's limit: what one large float32 matrix product reaches here and now."""

import time

import torch

from benchmarks.device import is_gpu, synchronise

# Large enough that starting and packing no longer count: three matrices of 16 MiB, of 256 MiB on a GPU.
_SIZE, _GPU_SIZE = 2048, 8192


def product_gflops(seconds: float, device: str = "cpu", size: int | None = None) -> float:
    """The best rate of a few products of two square matrices.

    Args:
        seconds: How long to go on; at least two products are made, after one that warms up.
        device: Where. PyTorch's products there are float32 throughout, unless it is told otherwise.
        size: Rows and columns; as the device needs where None.

    Returns:
        10⁹ floating-point operations a second, 2·size³ of them a product.
    """
    size = size or (_GPU_SIZE if is_gpu(device) else _SIZE)
    generator = torch.Generator(device).manual_seed(0)
    a, b = torch.randn(2, size, size, generator=generator, device=device).unbind()
    out = torch.mm(a, b)
    synchronise(device)
    times: list[float] = []
    while len(times) < 2 or sum(times) < seconds:
        began = time.perf_counter()
        torch.mm(a, b, out=out)
        synchronise(device)
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times) / 1e9
