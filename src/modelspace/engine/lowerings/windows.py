"""What lies under a kernel as it slides: strided views of an image."""

from itertools import product

from torch import Tensor


def windows(
    x: Tensor, first: int, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[list[Tensor], tuple[int, ...]]:
    """For each place in the kernel, what lies under it at every position: a strided view of ``x``.

    Args:
        x: The padded input; its spatial axes are ``first`` and the following ones.
        first: The first spatial axis.
        kernel: Its size.
        stride: Between positions.
        dilation: Between places.

    Returns:
        ∏ kernel views, in the order of the kernel's own elements, and the spatial size of each.
    """
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
    return views, size
