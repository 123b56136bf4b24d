"""The machine's limit: what one large float32 matrix product reaches here and now."""

import time

import torch

_SIZE = 2048  # three matrices of 16 MiB: large enough that starting and packing no longer count


def product_gflops(seconds: float, size: int = _SIZE) -> float:
    """The best rate of a few products of two square matrices.

    Args:
        seconds: How long to go on; at least two products are made, after one that warms up.
        size: Rows and columns.

    Returns:
        10⁹ floating-point operations a second, 2·size³ of them a product.
    """
    a, b = torch.randn(2, size, size, generator=torch.Generator().manual_seed(0)).unbind()
    out = torch.mm(a, b)
    times: list[float] = []
    while len(times) < 2 or sum(times) < seconds:
        began = time.perf_counter()
        torch.mm(a, b, out=out)
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times) / 1e9
