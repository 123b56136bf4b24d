"""Random choices: integers, permutations, events, categories; each a function of (member's seed, step, call site).

Whole numbers are the remainders of 63-bit words: of n values some are likelier than others by a factor of at most
1 + n/2⁶³.

What only PyTorch's generator can draw (``torch.poisson``) is ``seeded`` for each call from (member's seed, step,
site). So the numbers are again a function of these alone, in the plain loop and under ``vmap``, where the members are
gone through one by one; they are the same on machines of one kind, but not on a CPU and a GPU. A compiled program
can't seed a generator. And nobody's numbers are a generator's or a ``vmap``'s of the network's own.
"""

from functools import cache, partial
from types import FunctionType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils import _pytree as pytree

from modelspace.engine.lowerings.batched import Function, Table, member_by_member
from modelspace.engine.lowerings.noise import finished, required, sizes, type_of, without_gradient
from modelspace.engine.randomness import DIGITS, Draws, integers, interior, stream_seed, uniform

_SIGN = -(2**63)


def below(draws: Draws, shape: tuple[int, ...], low: int, high: int) -> Int[Tensor, "*shape"]:
    """Draw whole numbers from ``low`` ≥ −2⁶³ to ``high`` − 1, ``high`` ≤ 2⁶³, as int64.

    Where there are more than 2⁶³ values, some are twice as likely as others.
    """
    low, high = int(low), int(high)
    required(low < high, f"random integers need from < to; received from={low}, to={high}")
    word, span = draws.of(integers, shape, torch.int64), high - low
    if span < 2**63:
        return (word & (2**63 - 1)) % span + low
    if span == 2**63:
        word = word & (2**63 - 1)
    elif span < 2**64:
        # Words that are at least span, without a sign, are reduced by it; int64 wraps.
        word = torch.where((word ^ _SIGN) >= span - 2**63, word - (span - 2**64), word)
    return word + low


def randint(draws: Draws, *args: Any, dtype: torch.dtype | None = None, **options: Any) -> Tensor:
    """``torch.randint``: of ``(high, size)`` or ``(low, high, size)``."""
    size = options.pop("size", None)
    if size is None:
        args, size = args[:-1], args[-1]
    low, high = _bounds(args, options)
    value = below(draws, sizes((size,)), low, high)
    return finished(value.to(type_of(dtype, options.get("out"), torch.int64)), **options)


def randint_like(
    draws: Draws, input: Tensor, *args: Any, dtype: torch.dtype | None = None, **options: Any
) -> Tensor:
    """``torch.randint_like``: of ``(input, high)`` or ``(input, low, high)``."""
    low, high = _bounds(args, options)
    options.setdefault("device", input.device)
    return finished(below(draws, tuple(input.shape), low, high).to(dtype or input.dtype), **options)


def random_(draws: Draws, input: Tensor, *args: Any, generator: None = None, **named: Any) -> Tensor:
    """``Tensor.random_``: of ``()``, ``(to)`` or ``(from, to)``; else up to the type's largest, or 2ᵈ of d digits."""
    low, high = _bounds(args, named, "from", "to")
    high = _largest(input.dtype) + 1 if high is None else high
    return input.copy_(below(draws, tuple(input.shape), low, high))


def _bounds(
    args: tuple[Any, ...], named: dict[str, Any], first: str = "low", second: str = "high"
) -> tuple[int, Any]:
    """Return the two bounds, of positional arguments and those given by name, which are taken out."""
    low, high = named.pop(first, 0), named.pop(second, None)
    if len(args) == 2:
        low, high = args
    elif args and high is None:
        (high,) = args
    elif args:
        (low,) = args
    return low, high


def _largest(dtype: torch.dtype) -> int:
    if dtype is torch.bool:
        return 1
    return 2 ** DIGITS[dtype] if dtype.is_floating_point else torch.iinfo(dtype).max


def randperm(draws: Draws, n: int, *, dtype: torch.dtype | None = None, **options: Any) -> Int[Tensor, "n"]:
    """``torch.randperm``: the order of n 64-bit words; equal words, of probability below n²/2⁶⁵, keep theirs."""
    order = torch.argsort(draws.of(integers, (n,), torch.int64), stable=True)
    return finished(order.to(type_of(dtype, options.get("out"), torch.int64)), **options)


def bernoulli(
    draws: Draws,
    input: Tensor,
    p: float | Tensor | None = None,
    *,
    out: Tensor | None = None,
    generator: None = None,
) -> Tensor:
    """``torch.bernoulli``: 1 with the probability that is given, as an element of ``input`` or as ``p``."""
    happens = _happens(draws, input, input if p is None else p).to(input.dtype)
    return finished(without_gradient(happens, input, p), out, input.device)


def bernoulli_(draws: Draws, input: Tensor, p: float | Tensor = 0.5, generator: None = None) -> Tensor:
    """``Tensor.bernoulli_``: 1 with probability p."""
    return input.copy_(_happens(draws, input, p).to(input.dtype))


def _happens(draws: Draws, input: Tensor, p: float | Tensor) -> Tensor:
    if not isinstance(p, Tensor):
        required(0 <= p <= 1, f"bernoulli expects p to be in [0, 1], but got p={p}")
    exact = (p if isinstance(p, Tensor) else input).dtype is torch.float64
    chance = p.detach() if isinstance(p, Tensor) else p
    return draws.of(uniform, tuple(input.shape), torch.float64 if exact else torch.float32) < chance


def multinomial(
    draws: Draws,
    input: Float[Tensor, "*row category"],
    num_samples: int,
    replacement: bool = False,
    *,
    out: Tensor | None = None,
    generator: None = None,
) -> Int[Tensor, "*row {num_samples}"]:
    """``torch.multinomial``: categories by their weights, in float64.

    With replacement, the inverse of the cumulated weights: the first category at which they reach u · total, u in
    (0, 1]; its weight is not 0. Without, a race of exponential numbers: the ``num_samples`` largest weight / E are
    the categories drawn, in order (Efraimidis and Spirakis, 2006).
    """
    weights = input.detach().double()
    count = weights.shape[-1]
    required(
        replacement or num_samples <= count,
        f"cannot draw {num_samples} of {count} categories without replacement",
    )
    if replacement or num_samples == 1:
        reached = weights.cumsum(-1)
        u = 1 - draws.of(uniform, (*weights.shape[:-1], num_samples), torch.float64)
        chosen = torch.searchsorted(reached, u * reached[..., -1:])
    else:
        waiting = -torch.log(draws.of(interior, tuple(weights.shape), torch.float64))
        chosen = torch.topk(weights / waiting, num_samples).indices
    return finished(chosen, out, input.device)


DRAWN: Table = {
    torch.randint: randint,
    torch.randint_like: randint_like,
    torch.randperm: randperm,
    torch.bernoulli: bernoulli,
    torch.multinomial: multinomial,
    Tensor.random_: random_,
    Tensor.bernoulli: bernoulli,
    Tensor.bernoulli_: bernoulli_,
    Tensor.multinomial: multinomial,
}


# What only PyTorch's generator can draw


@cache
def only_by_generator(function: Function) -> bool:
    """Tell whether an operation draws random numbers: PyTorch tags it so, or it takes a generator."""
    if isinstance(function, FunctionType):
        return False  # what it calls is seen
    if isinstance(function, torch._ops.OpOverload):
        return _draws(function)
    name = getattr(function, "__name__", "")
    packet = function if isinstance(function, torch._ops.OpOverloadPacket) else None
    packet = packet or getattr(torch.ops.aten, name, None)
    if name in _RECURRENT or not isinstance(packet, torch._ops.OpOverloadPacket):
        return False
    return any(_draws(getattr(packet, overload)) for overload in packet.overloads())


# They draw only where they drop out, and have lowerings of their own.
_RECURRENT = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu"})


def _draws(operation: torch._ops.OpOverload) -> bool:
    takes = any(argument.name == "generator" for argument in operation._schema.arguments)
    return takes or torch.Tag.nondeterministic_seeded in operation.tags


def by_generator(draws: Draws, stacked: bool, function: Function, *args: Any, **kwargs: Any) -> Any:
    """Call an operation with PyTorch's generator seeded for the next call site.

    Where ``stacked``, the draws are those of all members, as seen through ``vmap``: it is then called for each.
    """
    one = partial(_seeded, function, draws.next_site())
    call = partial(member_by_member, one) if stacked else one
    return call(draws.seed, draws.step, *args, **kwargs)


def _seeded(function: Function, site: int, seed: Tensor, step: Tensor, *args: Any, **kwargs: Any) -> Any:
    try:
        number = stream_seed(int(seed), int(step), site)
    except RuntimeError as error:
        name = function.__name__
        raise RuntimeError(f"{name} draws by PyTorch's generator: it can't be compiled") from error
    leaves = (seed, *pytree.tree_leaves((args, kwargs)))
    cards = {x.device.index for x in leaves if isinstance(x, Tensor) and x.is_cuda}
    with torch.random.fork_rng(devices=cards):
        # torch.manual_seed does the same for every device, and takes twenty times as long.
        torch.default_generator.manual_seed(number)
        for card in cards:
            torch.cuda.default_generators[card].manual_seed(number)
        return function(*args, **kwargs)


class WouldDrawError(Exception):
    """A lowering without numbers to draw has come to where it draws."""


class NoDraws(Draws):
    """Numbers that nobody may draw."""

    def next_site(self) -> int:
        """Raise: a lowering that gets here draws."""
        raise WouldDrawError
