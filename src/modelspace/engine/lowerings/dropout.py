"""Dropout whose masks are a function of (member's seed, step, call site): the same in any packing."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from modelspace.engine.randomness import Draws

_ALPHA = -1.7580993408473766  # the negative saturation value of SELU (Klambauer et al. 2017)


def table(draws: Draws) -> Mapping[Callable[..., Any], Callable[..., Any]]:
    """The dropout functions for one member's forward."""

    def keep(shape: tuple[int, ...], p: float) -> Tensor:
        return draws.uniform(shape) >= p

    def plain(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        return _scaled(input, p, training, inplace, lambda: keep(tuple(input.shape), p))

    def channels(spatial: int) -> Callable[..., Tensor]:
        def function(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
            shape = (*input.shape[:-spatial], *[1] * spatial)
            return _scaled(input, p, training, inplace, lambda: keep(shape, p))

        return function

    def alpha(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
        return _alpha(input, p, training, inplace, lambda: keep(tuple(input.shape), p))

    def feature_alpha(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
        shape = (*input.shape[:2], *[1] * (input.dim() - 2))
        return _alpha(input, p, training, inplace, lambda: keep(shape, p))

    return {
        F.dropout: plain,
        torch.dropout: lambda input, p, train: plain(input, p, train),
        F.dropout1d: channels(1),
        F.dropout2d: channels(2),
        F.dropout3d: channels(3),
        F.alpha_dropout: alpha,
        F.feature_alpha_dropout: feature_alpha,
    }


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
