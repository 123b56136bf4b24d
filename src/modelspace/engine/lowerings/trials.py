"""Two ways to compute the same: the faster one on this machine, found by trying both once for each shape.

What was found is remembered in the user's cache folder, and with a run that is written down: the ways differ in the
last bits.
"""

import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from modelspace.engine.measurements import Measurements, fingerprint, wait

_TURNS, _TURN_SECONDS = 5, 3e-4


def gain(name: str, trial: Callable[[], tuple[float, float]]) -> float:
    """How many times as fast as the usual way the other one is.

    Args:
        name: What is computed, with its shapes.
        trial: Tries both: the seconds of the usual way and of the other. It is called outside of all modes and
            transformations, and leaves no trace in a program that is being made.
    """
    found = _remembered().known(name)
    if found is None:
        with _disable_current_modes(), torch._C.DisableTorchFunction(), torch.no_grad():
            usual, other = trial()
        found = usual / other
        _remembered().note(name, found)
        _remembered().keep()
    return found


def seconds(call: Callable[[], Any]) -> float:
    """The least of a few turns, each of as many calls as take a fraction of a millisecond."""
    call()
    wait()
    began = time.perf_counter()
    call()
    wait()
    once = time.perf_counter() - began
    calls = 1 + int(_TURN_SECONDS / once)
    turns = [once]
    for _ in range(_TURNS if once < 0.01 else 1):
        began = time.perf_counter()
        for _ in range(calls):
            call()
        wait()
        turns.append((time.perf_counter() - began) / calls)
    return min(turns)


def adopt(gains: Mapping[str, float]) -> None:
    """Take over what was measured in a run that is to go on bit for bit."""
    for name, found in gains.items():
        _remembered().note(name, found)


def measured() -> dict[str, float]:
    """What this process knows."""
    return _remembered().all()


@cache
def _remembered() -> Measurements:
    return Measurements(fingerprint("trials"))
