"""Operations plane by plane: pooling, interpolation, unpooling, in the layout of the lowered layers.

A plane [*size] depends on no other, so that members, samples and channels may be folded in any way. The lowered
layers keep the batch as the innermost axis in memory, where folding the members into the batch, as ``vmap`` does,
needs a copy. There [K, N, C, *size] is seen as [K·C, N, *size], which for the library is an image with its channels
last: nothing is copied, and its kernels run along the batch. Numbers, ties and NaN are the library's own.

Pooling, measured on one CPU core, K = 8, a net of two convolutions (16 and 32 filters on 8×8), each with a max pool,
and a linear layer: the whole training step is at batch 32 1.5 times as fast as with ``vmap``'s rule, compiled 2.2
times; at batch 128 1.7 and 1.8 times. A chain of ``torch.where`` over the windows was 0.9 and 1.35 times as fast. The
other pools gain the same in eager mode and nothing compiled; those that lose either way are left to ``vmap``:
averages of three axes and adaptive pools of three (0.95 eager), adaptive averages of two (0.7 compiled).

``vmap`` has no rule for unpooling, for ``mode="nearest-exact"`` and for ``F.affine_grid``. Interpolation, measured
likewise at batch 32, 16 channels of 8×8 to 16×16, eager: ``nearest`` 2.1 times as fast as with ``vmap``'s rule,
``bilinear`` 1.6 times; the other modes, and all of them compiled, are equal and left to it.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from modelspace.engine.lowerings.batched import Function, Pair, Table, batched, own

_nn: Any = torch._C._nn  # pyright: ignore[reportAttributeAccessIssue]


def plane_by_plane(
    function: Function, spatial: int, tensors: int, input: Tensor, *args: Any, **kwargs: Any
) -> Any:
    """Call a function of planes.

    Args:
        function: Of ``[batch, channel, *size]`` tensors, then constants; to one such tensor or several.
        spatial: The number of axes of a plane.
        tensors: How many of its arguments are tensors.
        input: The first of them.
        *args: The others, and constants.
        **kwargs: Constants.
    """
    planes, others = (input, *args[: tensors - 1]), args[tensors - 1 :]
    if input.dim() == spatial + 2:
        return batched(_plain, _rule, function, others, kwargs, *planes)
    out = batched(_plain, _rule, function, others, kwargs, *[x[None] for x in planes])
    return out[0] if isinstance(out, Tensor) else tuple(part[0] for part in out)


def _plain(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any], *planes: Tensor) -> Any:
    return function(*planes, *args, **kwargs)


def _rule(count: int, function: Pair, args: Pair, kwargs: Pair, *pairs: Pair) -> Any:
    stacked = [own(pair, count) for pair in pairs]
    innermost = stacked[0].stride(1) == 1
    folded = [(x.transpose(1, 2) if innermost else x).flatten(0, 1) for x in stacked]
    out = _plain(function[0], args[0], kwargs[0], *folded)
    if isinstance(out, Tensor):
        return _unfolded(out, count, innermost)
    return tuple(_unfolded(part, count, innermost) for part in out)


def _unfolded(x: Tensor, count: int, innermost: bool) -> Shaped[Tensor, "member batch channel *size"]:
    x = x.unflatten(0, (count, -1))
    return x.transpose(1, 2) if innermost else x


def affine_grid(
    theta: Float[Tensor, "batch axis column"], size: Sequence[int], align_corners: bool
) -> Float[Tensor, "batch *size axis"]:
    """``torch.affine_grid_generator``: where each sample's matrix takes the pixels of an image of ``size``."""
    return batched(torch.affine_grid_generator, _grid, theta, tuple(size), align_corners)


def _grid(count: int, matrices: Pair, size: Pair, corners: Pair) -> Tensor:
    samples, *rest = size[0]
    grid = torch.affine_grid_generator(matrices[0].flatten(0, 1), [count * samples, *rest], corners[0])
    return grid.unflatten(0, (count, -1))


def fractional_pool(
    function: Function,
    spatial: int,
    input: Tensor,
    kernel_size: Any,
    output_size: Any,
    _random_samples: Tensor,
) -> tuple[Tensor, Tensor]:
    """``torch._C._nn.fractional_max_pool2d`` or ``3d``, which is the first argument: all members as one batch.

    Where its windows begin is decided by the last, which ``torch.nn.functional`` draws by ``torch.rand``.
    """
    if input.dim() == spatial + 1:
        given = kernel_size, output_size, _random_samples[:1]
        values, places = fractional_pool(function, spatial, input[None], *given)
        return values[0], places[0]
    given = function, input.detach(), kernel_size, output_size, _random_samples
    places = batched(_fractional_places, _fractional, *given)
    # The values are gathered, for PyTorch's own backward is compiled wrongly where the input isn't contiguous.
    return input.flatten(2).gather(2, places.flatten(2)).view(places.shape), places


def _fractional_places(function: Function, x: Tensor, kernel: Any, size: Any, samples: Tensor) -> Tensor:
    """Return the place of each window's maximum in its channel."""
    return function(x, kernel, size, samples)[1]


def _fractional(count: int, function: Pair, *pairs: Pair) -> Tensor:
    x, samples = own(pairs[0], count), own(pairs[3], count)
    places = _fractional_places(function[0], x.flatten(0, 1), pairs[1][0], pairs[2][0], samples.flatten(0, 1))
    return places.unflatten(0, x.shape[:2])


_OF_ONE_TENSOR = {
    1: (
        torch.max_pool1d,
        torch.max_pool1d_with_indices,
        torch.avg_pool1d,
        torch.adaptive_avg_pool1d,
        torch.adaptive_max_pool1d,
        _nn._upsample_nearest_exact1d,
    ),
    2: (
        torch.max_pool2d,
        _nn.max_pool2d_with_indices,
        _nn.avg_pool2d,
        _nn.adaptive_max_pool2d,
        _nn.upsample_nearest2d,
        _nn.upsample_bilinear2d,
        _nn._upsample_nearest_exact2d,
    ),
    3: (torch.max_pool3d, _nn.max_pool3d_with_indices, _nn._upsample_nearest_exact3d),
}
TABLE: Table = {
    **{f: partial(plane_by_plane, f, spatial, 1) for spatial, all in _OF_ONE_TENSOR.items() for f in all},
    _nn.max_unpool2d: partial(plane_by_plane, _nn.max_unpool2d, 2, 2),
    _nn.max_unpool3d: partial(plane_by_plane, _nn.max_unpool3d, 3, 2),
    _nn.fractional_max_pool2d: partial(fractional_pool, _nn.fractional_max_pool2d, 2),
    _nn.fractional_max_pool3d: partial(fractional_pool, _nn.fractional_max_pool3d, 3),
    torch.affine_grid_generator: affine_grid,
}
