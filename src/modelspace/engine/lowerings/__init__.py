"""How an operation is carried out for many members at once, where ``vmap`` alone lacks it or does it badly.

One page a kind of operation, with one or both of two tables from the function that a module calls to the function
called in its place; the user's module is never touched. ``TABLE`` changes only how an operation is carried out, and
is used under ``vmap`` alone. ``DRAWN`` changes which random numbers it draws, and holds in the plain loop too: its
functions take the member's ``Draws`` before the operation's own arguments, and return ``NotImplemented`` where
nothing is drawn. ``TWICE`` are forms that can be differentiated twice, where those of ``TABLE`` can't.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from modelspace.engine.lowerings import (
    attention,
    choices,
    convolution,
    derivatives,
    embedding,
    linear,
    losses,
    memory,
    noise,
    packed,
    planes,
    recurrent,
)
from modelspace.engine.lowerings.batched import Function, Table, member_by_member, vmap_levels
from modelspace.engine.lowerings.choices import NoDraws, WouldDrawError, by_generator, only_by_generator
from modelspace.engine.lowerings.memory import FACTORIES, separated, spread, writes_into_shared
from modelspace.engine.lowerings.surroundings import (
    ALWAYS,
    UNDER_VMAP,
    cast,
    custom_functions,
    opened,
    swapped,
    without_fast_paths,
    without_hidden_loops,
)
from modelspace.engine.randomness import Draws

_BATCHED = (
    attention,
    convolution,
    derivatives,
    embedding,
    linear,
    losses,
    memory,
    noise,
    packed,
    planes,
    recurrent,
)
_RANDOM = (attention, choices, noise, recurrent)

BATCHED: Table = {function: lowering for kind in _BATCHED for function, lowering in kind.TABLE.items()}
KINDS = {function: kind.__name__.rpartition(".")[2] for kind in _BATCHED for function in kind.TABLE}
DRAWN: Table = {function: lowering for kind in _RANDOM for function, lowering in kind.DRAWN.items()}
TWICE: Table = {**BATCHED, **attention.TWICE, **embedding.TWICE}

MEMBER_BY_MEMBER = "member by member"
_NO_RULE = ("Batching rule not implemented", "hit the vmap fallback which is currently disabled")

_QUIET = re.compile(r"__(get|set)\w*__|detach|requires_grad_?")  # read-outs, not operations worth a line


class _Mode(TorchFunctionMode):
    """Sends each call to its lowering; the arguments are those of ``lowered``."""

    def __init__(
        self,
        draws: Draws | None,
        batched: bool,
        anchor: Any,
        products: Any,
        operations: dict[str, str],
        table: Table,
    ):
        super().__init__()
        self.table = table
        self.products = products
        self.draws = draws
        self.batched = batched
        self.anchor = anchor
        self.operations = operations
        self.levels = vmap_levels()

    def _note(self, name: str, how: str) -> None:
        if self.operations.get(name) != MEMBER_BY_MEMBER:
            self.operations[name] = how

    def __torch_function__(self, func: Function, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the lowering of ``func``; or what ``func`` is made of; or ``func`` itself, if need be one by one."""
        kwargs = kwargs or {}
        if self.products is not None:
            args, kwargs = cast(func, args, kwargs, self.products)
        if self.draws is not None and (func in DRAWN or only_by_generator(func)):
            drawn = self._drawn(self.draws, func, args, kwargs)
            if drawn is not NotImplemented:
                return drawn
        if self.batched and func in self.table:
            self._note(_name(func), f"lowering: {KINDS[func]}")
            return self.table[func](*args, **kwargs)
        inside = opened(func)
        if inside is not None:
            with self:
                return inside(*args, **kwargs)
        if not self.batched:
            return func(*args, **kwargs)
        if self.anchor is not None and func in FACTORIES:
            return spread(self.anchor, func(*args, **kwargs))
        try:
            result = func(*args, **kwargs)
            if isinstance(result, Tensor) and not _QUIET.fullmatch(_name(func)):
                self._note(_name(func), "vmap")
            return result
        except RuntimeError as error:
            if not any(text in str(error) for text in _NO_RULE):
                raise
            parts = separated(func, args, kwargs)
            if parts is not None:
                target, (plain, args, kwargs) = parts
                return target.copy_(self.__torch_function__(plain, types, args, kwargs))
            self._note(_name(func), MEMBER_BY_MEMBER)
            return member_by_member(func, *args, **kwargs)

    def _drawn(self, draws: Draws, func: Function, args: Any, kwargs: Any) -> Any:
        """Call ``func``, which draws: the member's numbers, unless the network has a generator of its own."""
        given = any(isinstance(value, torch.Generator) for value in (*args, *kwargs.values()))
        nested = vmap_levels() > self.levels
        if func in DRAWN and not given:
            own = NoDraws(draws.seed, draws.step, draws.site) if nested else draws
            try:
                result = DRAWN[func](own, *args, **kwargs)
            except WouldDrawError:
                pass
            else:
                if result is not NotImplemented:
                    self._note(_name(func), "numbers of the member's own")
                return result
        if self.batched and (given or nested):
            where = "a generator" if given else "a vmap"
            raise RuntimeError(f"{_name(func)} draws in {where} of the network's own: it can't be batched")
        if given:
            return func(*args, **kwargs)
        if self.batched:
            self._note(_name(func), MEMBER_BY_MEMBER)
        return by_generator(draws, self.batched, func, *args, **kwargs)

    def custom(self, name: str, function: Function, *args: Any, **kwargs: Any) -> Any:
        """Call a custom function without a batching rule, member by member; it draws the member's own numbers."""
        self._note(name, MEMBER_BY_MEMBER)
        draws = self.draws
        if draws is None:
            return member_by_member(function, *args, **kwargs)
        site = draws.site

        def one(seed: Tensor, step: Tensor, *args: Any, **kwargs: Any) -> Any:
            own = Draws(seed, step, site)
            with _Mode(own, False, None, self.products, self.operations, self.table):
                result = function(*args, **kwargs)
            draws.site = own.site
            return result

        return member_by_member(one, draws.seed, draws.step, *args, **kwargs)


def _name(function: Function) -> str:
    return getattr(function, "__name__", type(function).__name__)


@contextmanager
def lowered(
    draws: Draws | None,
    *,
    batched: bool,
    anchor: Tensor | None = None,
    products: torch.dtype | None = None,
    operations: dict[str, str] | None = None,
    twice: bool = False,
) -> Iterator[None]:
    """Within the block, calls of known operations go to their lowerings.

    Args:
        draws: The member's random numbers; None leaves them to PyTorch's generator.
        batched: Whether the block runs under ``vmap``. Then an operation without a batched form is carried out
            member by member, and said.
        anchor: A tensor with a member axis, if the tensors that the block makes are to be each member's own.
        products: The type of matrix products, where it is not the tensors' own: bfloat16 or float16.
        operations: Receives how each operation is carried out, by name.
        twice: Whether what is computed is to be differentiated twice.
    """
    table = TWICE if twice else BATCHED
    mode = _Mode(draws, batched, anchor, products, {} if operations is None else operations, table)
    with ExitStack() as stack:
        stack.enter_context(without_fast_paths())
        if batched:
            stack.enter_context(without_hidden_loops())
            stack.enter_context(swapped(*ALWAYS, *UNDER_VMAP, custom_functions(mode.custom)))
        else:
            stack.enter_context(swapped(*ALWAYS))
        stack.enter_context(mode)
        yield


__all__ = [
    "BATCHED",
    "DRAWN",
    "MEMBER_BY_MEMBER",
    "lowered",
    "spread",
    "without_fast_paths",
    "writes_into_shared",
]
