"""Operations plane by plane (pooling, resizing), in the layout of the lowered layers.

A plane [*size] depends on no other, so that members, samples and channels may be folded in any way. The lowered
layers keep the batch as the innermost axis in memory, where folding the members into the batch, as ``vmap`` does,
needs a copy. There [K, N, C, *size] is seen as [K·C, N, *size], which for the library is an image with its channels
last: nothing is copied, and its kernels run along the batch. Numbers, ties and NaN are the library's own.
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Shaped
from torch import Tensor

from modelspace.engine.lowerings.batched import batched


def plane_by_plane(function: Callable[..., Any], spatial: int, tensors: int = 1) -> Callable[..., Any]:
    """The lowering of a function of planes.

    Args:
        function: Of ``[batch, channel, *size]`` tensors, then constants; to one such tensor or several.
        spatial: The number of axes of a plane.
        tensors: How many of its arguments are tensors.
    """

    def rule(count: int, *arguments: tuple[Any, bool]) -> Any:
        *pairs, (args, _), (kwargs, _) = arguments
        stacked = [x if own else x.expand(count, *x.shape) for x, own in pairs]
        innermost = stacked[0].stride(1) == 1
        out = function(*[_folded(x, innermost) for x in stacked], *args, **kwargs)
        if isinstance(out, Tensor):
            return _unfolded(out, count, innermost)
        return tuple(_unfolded(part, count, innermost) for part in out)

    def plain(*arguments: Any) -> Any:
        *given, args, kwargs = arguments
        return function(*given, *args, **kwargs)

    call = batched(plain, rule)

    def lowered(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        planes, others = (input, *args[: tensors - 1]), args[tensors - 1 :]
        if input.dim() == spatial + 2:
            return call(*planes, others, kwargs)
        out = call(*[x[None] for x in planes], others, kwargs)
        return out[0] if isinstance(out, Tensor) else tuple(part[0] for part in out)

    return lowered


def _folded(
    x: Shaped[Tensor, "member batch channel *size"], innermost: bool
) -> Shaped[Tensor, "outer inner *size"]:
    return (x.transpose(1, 2) if innermost else x).flatten(0, 1)


def _unfolded(
    x: Shaped[Tensor, "outer inner *size"], count: int, innermost: bool
) -> Shaped[Tensor, "member batch channel *size"]:
    x = x.unflatten(0, (count, -1))
    return x.transpose(1, 2) if innermost else x
