"""Dropout whose masks are a function of (member's seed, step, call site): the same in any packing."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from modelspace.engine.randomness import Draws

_ALPHA = -1.7580993408473766  # the negative saturation value of SELU (Klambauer et al. 2017)


def _keep(draws: Draws, shape: tuple[int, ...], p: float) -> Tensor:
    return draws.uniform(shape) >= p


def dropout(
    draws: Draws, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """``F.dropout``: each element."""
    return _scaled(input, p, training, inplace, lambda: _keep(draws, tuple(input.shape), p))


def _channels(spatial: int) -> Callable[..., Tensor]:
    """``F.dropout1d``, ``2d``, ``3d``: whole channels."""

    def function(
        draws: Draws, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        shape = (*input.shape[:-spatial], *[1] * spatial)
        return _scaled(input, p, training, inplace, lambda: _keep(draws, shape, p))

    return function


def alpha_dropout(
    draws: Draws, input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """``F.alpha_dropout``: each element, mean and variance kept."""
    return _alpha(input, p, training, inplace, lambda: _keep(draws, tuple(input.shape), p))


def feature_alpha_dropout(
    draws: Draws, input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """``F.feature_alpha_dropout``: whole channels, mean and variance kept."""
    shape = (*input.shape[:2], *[1] * (input.dim() - 2))
    return _alpha(input, p, training, inplace, lambda: _keep(draws, shape, p))


def _scaled(
    input: Float[Tensor, "*shape"], p: float, training: bool, inplace: bool, keep: Callable[[], Tensor]
) -> Float[Tensor, "*shape"]:
    if not training or p == 0:
        return input
    factor = keep().to(input.dtype) * (0.0 if p == 1 else 1 / (1 - p))
    return input.mul_(factor) if inplace else input * factor


def _alpha(
    input: Float[Tensor, "*shape"], p: float, training: bool, inplace: bool, keep: Callable[[], Tensor]
) -> Float[Tensor, "*shape"]:
    if not training or p == 0:
        return input
    kept = keep().to(input.dtype)
    scale = 0.0 if p == 1 else ((1 - p) * (1 + p * _ALPHA**2)) ** -0.5
    result = (input * kept + _ALPHA * (1 - kept)) * scale - scale * _ALPHA * p
    return input.copy_(result) if inplace else result


DRAWN: Mapping[Callable[..., Any], Callable[..., Any]] = {
    F.dropout: dropout,
    torch.dropout: dropout,
    F.dropout1d: _channels(1),
    F.dropout2d: _channels(2),
    F.dropout3d: _channels(3),
    F.alpha_dropout: alpha_dropout,
    F.feature_alpha_dropout: feature_alpha_dropout,
}
