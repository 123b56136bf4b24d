"""What only PyTorch's generator can draw (``torch.poisson``): seeded for each call from (member's seed, step, site).

So the numbers are again a function of these alone, in the plain loop and under ``vmap``, where the members are gone
through one by one; they are the same on machines of one kind, but not on a CPU and a GPU. A compiled program can't
seed a generator. Also here: who else may draw, which is a generator or a ``vmap`` of the network's own.
"""

from collections.abc import Callable, Iterable
from functools import cache, partial
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from modelspace.engine.lowerings.batched import member_by_member
from modelspace.engine.randomness import Draws, stream_seed

# They draw only where they drop out, and have lowerings of their own.
_RECURRENT = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu"})


@cache
def only_by_generator(function: Callable[..., Any]) -> bool:
    """Whether an operation draws random numbers: PyTorch tags it so, or it takes a generator."""
    if isinstance(function, FunctionType):
        return False  # what it calls is seen
    name = getattr(function, "__name__", "")
    if isinstance(function, torch._ops.OpOverload):
        return _draws(function)
    packet = function if isinstance(function, torch._ops.OpOverloadPacket) else None
    packet = packet or getattr(torch.ops.aten, name, None)
    if name in _RECURRENT or not isinstance(packet, torch._ops.OpOverloadPacket):
        return False
    return any(_draws(getattr(packet, overload)) for overload in packet.overloads())


def _draws(operation: torch._ops.OpOverload) -> bool:
    takes = any(argument.name == "generator" for argument in operation._schema.arguments)
    return takes or torch.Tag.nondeterministic_seeded in operation.tags


def has_generator(values: Iterable[Any]) -> bool:
    """Whether the network gave the operation a generator of its own."""
    return any(isinstance(value, torch.Generator) for value in values)


def vmap_levels() -> int:
    """How many ``vmap``s we are in."""
    functorch: Any = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    stack = functorch.get_interpreter_stack() or ()
    return sum(interpreter.key() == functorch.TransformType.Vmap for interpreter in stack)


class WouldDrawError(Exception):
    """A lowering without numbers to draw has come to where it draws."""


class NoDraws(Draws):
    """Numbers that nobody may draw.

    Args:
        draws: Those that it stands for.
    """

    def __init__(self, draws: Draws):
        super().__init__(draws.seed, draws.step, draws.site)

    def next_site(self) -> int:
        """Raise: a lowering that gets here draws."""
        raise WouldDrawError


def seeded(draws: Draws, function: Callable[..., Any], batched: bool) -> Callable[..., Any]:
    """``function`` with PyTorch's generator seeded for the next call site.

    Args:
        draws: The member's numbers.
        function: An operation that draws by PyTorch's generator.
        batched: Whether ``draws`` are those of all members, as seen through ``vmap``: it is then called for each.
    """
    site = draws.next_site()

    def one(seed: Tensor, step: Tensor, *args: Any, **kwargs: Any) -> Any:
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

    return partial(member_by_member(one) if batched else one, draws.seed, draws.step)
