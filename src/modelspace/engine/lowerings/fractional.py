"""Fractional max pooling, of all members as one batch: ``vmap`` has no rule for it.

Where its windows begin is decided by an argument, which ``torch.nn.functional`` draws by ``torch.rand``.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from modelspace.engine.lowerings.batched import batched


def _pool(
    function: Callable[..., tuple[Tensor, Tensor]], spatial: int
) -> Callable[..., tuple[Tensor, Tensor]]:
    """The lowering of ``torch._C._nn.fractional_max_pool2d`` or ``3d``."""

    def places(x: Tensor, kernel: Any, size: Any, samples: Tensor) -> Int[Tensor, "*batch_channel_size"]:
        """Of each window's maximum, the place in its channel."""
        return function(x, kernel, size, samples)[1]

    def rule(count: int, *pairs: tuple[Any, bool]) -> Tensor:
        x, samples = (
            value if own else value.expand(count, *value.shape) for value, own in (pairs[0], pairs[3])
        )
        found = places(x.flatten(0, 1), pairs[1][0], pairs[2][0], samples.flatten(0, 1))
        return found.unflatten(0, x.shape[:2])

    together = batched(places, rule)

    def lowered(
        input: Float[Tensor, "*batch_channel_size"],
        kernel_size: Any,
        output_size: Any,
        _random_samples: Float[Tensor, "batch channel axis"],
    ) -> tuple[Tensor, Tensor]:
        if input.dim() == spatial + 1:
            values, found = lowered(input[None], kernel_size, output_size, _random_samples[:1])
            return values[0], found[0]
        found = together(input.detach(), kernel_size, output_size, _random_samples)
        # The values are gathered, for PyTorch's own backward is compiled wrongly where the input isn't contiguous.
        values = input.flatten(2).gather(2, found.flatten(2)).view(found.shape)
        return values, found

    return lowered


_nn: Any = torch._C._nn  # pyright: ignore[reportAttributeAccessIssue]

TABLE: Mapping[Callable[..., Any], Callable[..., Any]] = {
    _nn.fractional_max_pool2d: _pool(_nn.fractional_max_pool2d, 2),
    _nn.fractional_max_pool3d: _pool(_nn.fractional_max_pool3d, 3),
}
