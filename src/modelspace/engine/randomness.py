"""Random numbers without a stream: each is a function of (seed, step, call site, element).

Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from math import prod
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF


_Words = TypeVar("_Words", int, Tensor)


def philox(
    counter: tuple[_Words, _Words, _Words, _Words], key: tuple[_Words, _Words]
) -> tuple[_Words, _Words, _Words, _Words]:
    """Four 32-bit words of Philox4x32-10, elementwise.

    Args:
        counter: Four integers, or int64 tensors that broadcast against each other, of values 0 … 2³²−1.
        key: Two such.

    Returns:
        Four of the same kind.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # The products need all 64 bits; int64 wraps, and the masked shift reads its high word as unsigned.
        low, high = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((high >> 32) & _WORD) ^ c1 ^ k0,
            high & _WORD,
            ((low >> 32) & _WORD) ^ c3 ^ k1,
            low & _WORD,
        )
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return c0, c1, c2, c3


def uniform(
    shape: tuple[int, ...], seed: Int[Tensor, ""], step: Int[Tensor, ""], site: int
) -> Float[Tensor, "*shape"]:
    """Uniform numbers in [0, 1), multiples of 2⁻²⁴, in float32.

    Args:
        shape: The shape wanted.
        seed: The member's seed, int64, 0 … 2⁶³−1.
        step: The optimizer step, int64.
        site: Which random call of the forward this is: 0, 1, …
    """
    size = prod(shape)
    index = torch.arange((size + 3) // 4, device=seed.device)
    counter = (index, torch.full_like(index, site), (step & _WORD) + 0 * index, (step >> 32) + 0 * index)
    words = torch.stack(philox(counter, (seed & _WORD, seed >> 32)), -1).reshape(-1)[:size]
    return ((words >> 8).to(torch.float32) * 2.0**-24).reshape(shape)


class Draws:
    """The random numbers of one member's forward; call sites are numbered in the order of calls.

    Args:
        seed: The member's seed.
        step: The optimizer step.
        site: The next call site's number.
    """

    def __init__(self, seed: Int[Tensor, ""], step: Int[Tensor, ""], site: int = 0):
        self.seed = seed
        self.step = step
        self.site = site

    def uniform(self, shape: tuple[int, ...]) -> Float[Tensor, "*shape"]:
        """Uniform numbers in [0, 1), multiples of 2⁻²⁴, in float32: the next call site's."""
        self.site += 1
        return uniform(shape, self.seed, self.step, self.site - 1)

    def from_here(self) -> "Draws":
        """A copy, whose numbers are those that come next here."""
        return Draws(self.seed, self.step, self.site)


def stream_seed(seed: int, step: int) -> int:
    """One 62-bit seed for a whole forward, for random operations that only a generator can do."""
    words = philox((step & _WORD, step >> 32, 0, 1), (seed & _WORD, seed >> 32))
    return (words[0] << 30) ^ words[1]
