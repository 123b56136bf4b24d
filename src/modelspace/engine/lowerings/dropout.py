"""Dropout whose masks are a function of (member's seed, step, call site): the same in any packing.

The functions are the builtins that those of ``torch.nn.functional`` end in. An element, or a whole channel
('feature'), is dropped where a uniform number of [0, 1) in float32 is below p.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from modelspace.engine.randomness import Draws

_ALPHA = -1.7580993408473766  # the negative saturation value of SELU (Klambauer et al. 2017)

Shape = Callable[[Tensor], tuple[int, ...]]


def _each(input: Tensor) -> tuple[int, ...]:
    return tuple(input.shape)


def _channel(input: Tensor) -> tuple[int, ...]:
    if input.dim() < 2:
        raise RuntimeError("Feature dropout requires at least 2 dimensions in the input")
    return (*input.shape[:2], *[1] * (input.dim() - 2))


def _keep(draws: Draws, shape: tuple[int, ...], p: float) -> Bool[Tensor, "*shape"]:
    if not 0 <= p <= 1:
        raise RuntimeError(f"dropout probability has to be between 0 and 1, but got {p}")
    return draws.uniform(shape) >= p


def _scaled(shape: Shape, inplace: bool) -> Callable[..., Tensor]:
    """``dropout``, ``feature_dropout``: what is kept is divided by 1 − p."""

    def function(draws: Draws, input: Float[Tensor, "*shape"], p: float, train: bool) -> Tensor:
        if not train or p == 0:
            return input
        kept = _keep(draws, shape(input), p).to(input.dtype)
        factor = kept * (0.0 if p == 1 else 1 / (1 - p))
        return input.mul_(factor) if inplace else input * factor

    return function


def _alpha(shape: Shape, inplace: bool) -> Callable[..., Tensor]:
    """``alpha_dropout``, ``feature_alpha_dropout``: dropped to SELU's saturation, mean and variance kept."""

    def function(draws: Draws, input: Float[Tensor, "*shape"], p: float, train: bool) -> Tensor:
        if not train or p == 0:
            return input
        kept = _keep(draws, shape(input), p).to(input.dtype)
        scale = 0.0 if p == 1 else ((1 - p) * (1 + p * _ALPHA**2)) ** -0.5
        result = (input * kept + _ALPHA * (1 - kept)) * scale - scale * _ALPHA * p
        return input.copy_(result) if inplace else result

    return function


def native_dropout(draws: Draws, input: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    """``torch.native_dropout``: the output, and the mask of what is kept."""
    if train is False or p == 0:
        return input.clone(), torch.ones_like(input, dtype=torch.bool)
    kept = _keep(draws, _each(input), p)
    return input * kept.to(input.dtype) * (0.0 if p == 1 else 1 / (1 - p)), kept


DRAWN: Mapping[Callable[..., Any], Callable[..., Any]] = {
    torch.dropout: _scaled(_each, inplace=False),
    torch.dropout_: _scaled(_each, inplace=True),
    torch.feature_dropout: _scaled(_channel, inplace=False),
    torch.feature_dropout_: _scaled(_channel, inplace=True),
    torch.alpha_dropout: _alpha(_each, inplace=False),
    torch.alpha_dropout_: _alpha(_each, inplace=True),
    torch.feature_alpha_dropout: _alpha(_channel, inplace=False),
    torch.feature_alpha_dropout_: _alpha(_channel, inplace=True),
    torch.native_dropout: native_dropout,
}
