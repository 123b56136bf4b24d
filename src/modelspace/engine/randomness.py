"""Random numbers without a stream: each is a function of (seed, step, call site, element).

Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. One call of it
makes four words of 32 bits: four numbers of a float32 tensor, or two of a float64 tensor.
"""

from collections.abc import Callable
from math import pi, prod
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF

# The numbers of [0, 1) that are drawn are multiples of 2⁻ᵇ, so that rounding never makes a 1; b is PyTorch's.
DIGITS = {torch.float64: 53, torch.float32: 24, torch.float16: 11, torch.bfloat16: 8}

_Words = TypeVar("_Words", int, Tensor, npt.NDArray[np.int64])


def philox(
    counter: tuple[_Words, _Words, _Words, _Words], key: tuple[_Words, _Words]
) -> tuple[_Words, _Words, _Words, _Words]:
    """Return four 32-bit words of Philox4x32-10, elementwise.

    Counter and key are integers of 0 … 2³²−1, or int64 tensors of such that broadcast against each other.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        (low0, high0), (low1, high1) = _product(c0, _MULTIPLIERS[0]), _product(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return c0, c1, c2, c3


def _product(word: _Words, odd: int) -> tuple[_Words, _Words]:
    """Return the lower and upper word of the 64-bit product of a word and an odd constant.

    It may reach 2⁶⁴, and int64 must not overflow: C++ leaves the result open, and compiled numbers did differ from
    PyTorch's. So q = (w − 2³¹) m + 2³¹ is computed; w m is q + ⌊m/2⌋ 2³².
    """
    q = (word - 2**31) * odd + 2**31
    return q & _WORD, ((q >> 32) + (odd >> 1)) & _WORD


Four = tuple[Tensor, Tensor, Tensor, Tensor]


def words(count: int, seed: Int[Tensor, ""], step: Int[Tensor, ""], site: int) -> Four:
    """Return four tensors ``[count]`` of 32-bit words, in int64: as many calls of Philox.

    The seed is int64, 0 … 2⁶³−1, the step int64; the site says which random call of the forward this is: 0, 1, …
    """
    if _concrete(seed):
        # The same integers by NumPy, whose short operations cost a third: a member alone in the plain loop.
        s, t = int(seed), int(step)
        index: Any = np.arange(count)
        four = philox((index, site, t & _WORD, t >> 32), (s & _WORD, s >> 32))
        return tuple(torch.from_numpy(word) for word in four)  # pyright: ignore[reportReturnType]
    index = torch.arange(count, device=seed.device)
    if get_proxy_mode() is not None:
        # For a GPU, Inductor computes what depends on positions alone in 32 bits, and the products would overflow. A
        # position that depends on a value, here by a 0, is computed in 64.
        index = index ^ (step & 0)
    counter = (index, torch.full_like(step, site), step & _WORD, step >> 32)
    return philox(counter, (seed & _WORD, seed >> 32))


def _concrete(seed: Tensor) -> bool:
    """Tell whether a seed is a number here and now: neither seen through ``vmap`` nor traced, on the CPU."""
    functorch = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    plain = type(seed) is Tensor and not functorch.is_functorch_wrapped_tensor(seed)
    return plain and seed.device.type == "cpu" and get_proxy_mode() is None


# Kinds of numbers: of the four words and a type, two tensors for a type of 64 bits, four for any other. ``interior``
# and ``normal`` numbers are of float32 or float64.


def uniform(four: Four, dtype: torch.dtype) -> list[Float[Tensor, "count"]]:
    """Make uniform numbers in [0, 1): multiples of 2⁻²⁴ (float32), 2⁻⁵³ (float64), 2⁻¹¹ (float16), 2⁻⁸ (bfloat16)."""
    digits = DIGITS[dtype]
    if dtype is torch.float64:
        return [word.double() * 2.0**-digits for word in _halves(four, digits)]
    return [((word >> (32 - digits)).float() * 2.0**-digits).to(dtype) for word in four]


def interior(four: Four, dtype: torch.dtype) -> list[Float[Tensor, "count"]]:
    """Make uniform numbers in (0, 1), for logarithms: of float32 2⁻³³ … 1−2⁻²⁴, of float64 2⁻⁵³ … 1−2⁻⁵³.

    float32 uses all 32 bits of a word, (w + ½)·2⁻³² rounded: below ½ it has more digits than ``uniform``, so that
    tails reach as far as those of 32-bit numbers (−log u < 22.9).
    """
    if dtype is torch.float64:
        return [(word.double() + 0.5) * 2.0**-52 for word in _halves(four, 52)]
    return [((word.float() + 0.5) * 2.0**-32).clamp_max(1 - 2.0**-24) for word in four]


def normal(four: Four, dtype: torch.dtype) -> list[Float[Tensor, "count"]]:
    """Make normal numbers by Box and Muller (1958): √(−2 log u) (cos 2πv, sin 2πv), u in (0, 1), v in [0, 1).

    They reach 6.7 σ in float32 and 8.5 σ in float64. Compiled on a CPU this is 2 ns a number, where the inverse error
    function, which Inductor doesn't vectorise, takes 80; and √(−2 log u) has its full relative precision in both
    tails, where the inverse at a number near 1 has not. The logarithm, sine and cosine are the machine's: batched,
    plain or compiled, a number may differ in its last digit, as any arithmetic may; the words never do.
    """
    u = interior(four, dtype)
    if dtype is torch.float64:
        pairs = [(u[0], uniform(four, dtype)[1])]
    else:
        pairs = [(u[0], four[1].float() * 2.0**-32), (u[2], four[3].float() * 2.0**-32)]
    numbers = []
    for number, turn in pairs:
        radius, angle = torch.sqrt(-2 * torch.log(number)), turn * (2 * pi)
        numbers += [radius * torch.cos(angle), radius * torch.sin(angle)]
    return numbers


def integers(four: Four, dtype: torch.dtype = torch.int64) -> list[Int[Tensor, "count"]]:
    """Make two tensors of all 64 bits, as int64, from the four words."""
    return [four[0] << 32 | four[1], four[2] << 32 | four[3]]


def _halves(four: Four, digits: int) -> list[Int[Tensor, "count"]]:
    """Return the upper 32 < ``digits`` < 64 bits of the two 64-bit words, as integers that are not negative."""
    return [
        (high << (digits - 32)) | (low >> (64 - digits))
        for high, low in ((four[0], four[1]), (four[2], four[3]))
    ]


Kind = Callable[[Four, torch.dtype], list[Tensor]]


class Draws:
    """The random numbers of one member's forward: a function of its seed, the step and the call's site.

    Call sites are numbered in the order of calls, from ``site`` on.
    """

    def __init__(self, seed: Int[Tensor, ""], step: Int[Tensor, ""], site: int = 0):
        self.seed = seed
        self.step = step
        self.site = site

    def of(
        self, kind: Kind, shape: tuple[int, ...], dtype: torch.dtype = torch.float32
    ) -> Shaped[Tensor, "*shape"]:
        """Return the next call site's numbers of a kind (``uniform``, …); the k-th is the same whatever the shape."""
        size = prod(shape)
        each = 2 if dtype.itemsize == 8 else 4
        four = words(-(-size // each), self.seed, self.step, self.next_site())
        return torch.stack(kind(four, dtype), -1).reshape(-1)[:size].reshape(shape)

    def next_site(self) -> int:
        """Return the next call site's number, which is thereby taken."""
        self.site += 1
        return self.site - 1

    def from_here(self) -> "Draws":
        """Return a copy, whose numbers are those that come next here."""
        return Draws(self.seed, self.step, self.site)


def evaluation_draws(device: torch.device) -> Draws:
    """Return the random numbers of a forward in evaluation: all members', and at all times, the same."""
    return Draws(torch.tensor(0, device=device), torch.tensor(2**63 - 1, device=device))


def forward_draws(
    training: bool, seed: Int[Tensor, ""] | None, step: Int[Tensor, ""] | None, device: torch.device
) -> Draws | None:
    """Return the numbers of one forward: in training the member's own, None where it has no seed or no step."""
    if not training:
        return evaluation_draws(device)
    return None if seed is None or step is None else Draws(seed, step)


def stream_seed(seed: int, step: int, site: int) -> int:
    """Return a 62-bit seed of PyTorch's generator for one call of an operation that only a generator can do."""
    # The counter's first word is that of a number which no tensor is large enough to have.
    words = philox((_WORD, site, step & _WORD, step >> 32), (seed & _WORD, seed >> 32))
    return (words[0] << 30) ^ words[1]
