"""``F.prelu`` with slopes of each member's own, for which ``vmap``'s rule resizes its output and warns."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def prelu(
    input: Float[Tensor, "*batch_channel_size"], weight: Float[Tensor, "slope"]
) -> Float[Tensor, "*batch_channel_size"]:
    """X where x > 0, w x elsewhere; one slope w for all, or one for each channel."""
    if weight.numel() == 1:
        weight = weight.reshape(())
    else:
        weight = weight.view(*input.shape[1:2], *[1] * (input.dim() - 2))
    return torch.where(input > 0, input, weight * input)


TABLE: Mapping[Callable[..., Any], Callable[..., Any]] = {torch.prelu: prelu}
