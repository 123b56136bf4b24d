"""Matrix products whose weight gradient is computed in the faster of its two orders.

    ∂W = G Cᵀ = (C Gᵀ)ᵀ

The numbers are the same, the time is not: where both matrices lie with the summed axis innermost, as after a
convolution, the library's two ways differ by a factor of up to three, in either direction, by shape and by machine
(16×144 over 2048: C Gᵀ is 2.8 times as fast on an AVX-512 machine; 9×27 over 800: half as fast). So both are timed
once for each shape that is met, a few milliseconds, and what was found is remembered in the user's cache folder.
"""

import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from modelspace.engine.measurements import Measurements, fingerprint

_CLEARLY = 1.2  # the other order is taken where it is so many times as fast
_MEMBERS = 4  # stacked in a trial
_TURNS, _TURN_SECONDS = 5, 3e-4


def matrix_product(
    weight: Float[Tensor, "*member row inner"], columns: Float[Tensor, "*member inner column"]
) -> Float[Tensor, "*member row column"]:
    """``weight @ columns``, with the order of its weight gradient chosen by measurement."""
    if weight.device.type != "cpu":
        return weight @ columns
    shape = (weight.shape[-2], weight.shape[-1], columns.shape[-1])
    gain = _gain(*shape, 1 if weight.dim() == 2 else _MEMBERS, weight.dtype)
    return _Swapped.apply(weight, columns) if gain > _CLEARLY else weight @ columns


class _Swapped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, columns: Tensor) -> Tensor:
        ctx.save_for_backward(weight, columns)
        return weight @ columns

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        weight, columns = ctx.saved_tensors
        (gradient,) = gradients
        return (columns @ gradient.mT).mT, weight.mT @ gradient if ctx.needs_input_grad[1] else None


@cache
def _remembered() -> Measurements:
    return Measurements(fingerprint("products"))


def adopt(gains: Mapping[str, float]) -> None:
    """Take over what was measured in a run that is to go on bit for bit."""
    for name, gain in gains.items():
        _remembered().note(name, gain)


def measured() -> dict[str, float]:
    """What this process knows."""
    return _remembered().all()


def _gain(rows: int, inner: int, columns: int, members: int, dtype: torch.dtype) -> float:
    """How many times as fast as G Cᵀ the other order is."""
    name = f"{members} × {rows}×{inner} over {columns}, {dtype}"
    found = _remembered().known(name)
    if found is None:
        found = _measured(rows, inner, columns, members, dtype)
        _remembered().note(name, found)
        _remembered().keep()
    return found


def _measured(rows: int, inner: int, columns: int, members: int, dtype: torch.dtype) -> float:
    with _disable_current_modes(), torch._C.DisableTorchFunction(), torch.no_grad():
        g = torch.ones(members, rows, columns, dtype=dtype)
        c = torch.ones(members, inner, columns, dtype=dtype)
        return _seconds(lambda: g @ c.mT) / _seconds(lambda: c @ g.mT)


def _seconds(call: Callable[[], Any]) -> float:
    """The least of a few turns, each of as many calls as take a fraction of a millisecond."""
    call()
    began = time.perf_counter()
    call()
    calls = 1 + int(_TURN_SECONDS / (time.perf_counter() - began))
    turns = []
    for _ in range(_TURNS):
        began = time.perf_counter()
        for _ in range(calls):
            call()
        turns.append(time.perf_counter() - began)
    return min(turns) / calls
