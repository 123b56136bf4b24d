"""The random numbers of this package: a pure function of a seed, never of a global stream."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from modelspace.errors import ModelspaceError

LARGEST_SEED = 2**63 - 1


def generator(seed: int, *key: int) -> np.random.Generator:
    """A fresh stream for ``seed``, and for ``key`` within it.

    The key is NumPy's ``spawn_key`` and not a second word of entropy, because ``SeedSequence([s, e])`` joins
    the 32-bit words of both and pads with zeros: ``[5 + 7·2³², 0]`` and ``[5, 7]`` are the same stream.

    Args:
        seed: 0 … 2⁶³ − 1.
        key: Further non-negative integers, such as an epoch.

    Returns:
        A generator (PCG64).

    Raises:
        ModelspaceError: ``seed`` or a part of the key is out of range.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise ModelspaceError(f"seed {seed} is out of range: give an integer from 0 to 2**63 - 1")
    if any(part < 0 for part in key):
        raise ModelspaceError(f"epoch {min(key)} is negative: epochs count from 0")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


class Resumed:
    """A context in which the global streams of Python, NumPy and PyTorch are its own, seeded once.

    It is entered again and again, and they go on where they were; outside, what goes on is as if they had not.
    """

    def __init__(self, seed: int):
        with global_randomness_kept():
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            torch.default_generator.manual_seed(seed)
            self._inside = _states()
        self._outside = self._inside

    def __enter__(self) -> None:
        self._outside = _states()
        _set(self._inside)

    def __exit__(self, *_: object) -> None:
        self._inside = _states()
        _set(self._outside)


def global_state() -> tuple[object, ...]:
    """Where Python's, NumPy's and PyTorch's global streams are: equal where nothing was drawn between."""
    numpy = np.random.get_state(legacy=False)["state"]  # noqa: NPY002  # pyright: ignore
    return random.getstate(), bytes(numpy["key"]), numpy["pos"], bytes(torch.get_rng_state().numpy())


@contextmanager
def global_randomness_kept() -> Iterator[None]:
    """Whatever seeds or draws from a global stream inside, they go on outside as if it had not."""
    before = _states()
    try:
        yield
    finally:
        _set(before)


def _states() -> tuple[Any, ...]:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002


def _set(states: tuple[Any, ...]) -> None:
    python, numpy, torch_ = states
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002
    torch.set_rng_state(torch_)
