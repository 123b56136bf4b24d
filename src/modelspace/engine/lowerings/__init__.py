"""How an operation is carried out for many members at once, where ``vmap`` alone lacks it or does it badly.

One file a kind of operation, with one or both of two tables from the function that a module calls to the function
called in its place; the user's module is never touched. ``TABLE`` changes only how an operation is carried out, and
is used under ``vmap`` alone. ``DRAWN`` changes which random numbers it draws, and holds in the plain loop too: its
functions take the member's ``Draws`` before the operation's own arguments, and return ``NotImplemented`` where
nothing is drawn.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from modelspace.engine.lowerings import (
    activations,
    attention,
    bilinear,
    choices,
    convolution,
    dropout,
    embedding,
    fractional,
    inplace,
    linear,
    losses,
    noise,
    normalisation,
    packed,
    pooling,
    recurrent,
    resizing,
    views,
)
from modelspace.engine.lowerings.batched import member_by_member
from modelspace.engine.lowerings.checkpoints import without_checkpoints
from modelspace.engine.lowerings.composite import opened
from modelspace.engine.lowerings.custom import custom_functions
from modelspace.engine.lowerings.distributions import unchecked_distributions
from modelspace.engine.lowerings.generators import (
    NoDraws,
    WouldDrawError,
    has_generator,
    only_by_generator,
    seeded,
    vmap_levels,
)
from modelspace.engine.lowerings.inplace import separated
from modelspace.engine.lowerings.precision import cast
from modelspace.engine.lowerings.spreading import FACTORIES, spread, writes_into_shared
from modelspace.engine.randomness import Draws

_BATCHED = (
    activations,
    attention,
    bilinear,
    convolution,
    embedding,
    fractional,
    inplace,
    linear,
    losses,
    noise,
    normalisation,
    packed,
    pooling,
    recurrent,
    resizing,
    views,
)
_RANDOM = (attention, choices, dropout, noise, recurrent)

Table = Mapping[Callable[..., Any], Callable[..., Any]]
BATCHED: Table = {function: lowering for kind in _BATCHED for function, lowering in kind.TABLE.items()}
KINDS = {function: kind.__name__.rpartition(".")[2] for kind in _BATCHED for function in kind.TABLE}
DRAWN: Table = {function: lowering for kind in _RANDOM for function, lowering in kind.DRAWN.items()}

MEMBER_BY_MEMBER = "member by member"
_NO_RULE = ("Batching rule not implemented", "hit the vmap fallback which is currently disabled")

_QUIET = re.compile(r"__(get|set)\w*__|detach|requires_grad_?")  # read-outs, not operations worth a line

Said = Callable[[str, str], None]


class _Mode(TorchFunctionMode):
    """Sends each call to its lowering.

    Args:
        draws: The member's random numbers; None leaves them to PyTorch's generator.
        batched: Whether the calls run under ``vmap``.
        anchor: A tensor with a member axis, if the tensors that a forward makes are to be each member's own.
        products: The type of matrix products, where it is not the tensors' own.
        said: Called with an operation's name and how it is carried out.
    """

    def __init__(
        self,
        draws: Draws | None,
        batched: bool,
        anchor: Tensor | None,
        products: torch.dtype | None,
        said: Said,
    ):
        super().__init__()
        self.products = products
        self.draws = draws
        self.batched = batched
        self.anchor = anchor
        self.said = said
        self.levels = vmap_levels()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the lowering of ``func``; or what ``func`` is made of; or ``func`` itself, if need be one by one."""
        kwargs = kwargs or {}
        if self.products is not None:
            args, kwargs = cast(func, args, kwargs, self.products)
        if self.draws is not None and (func in DRAWN or only_by_generator(func)):
            drawn = self._drawn(self.draws, func, args, kwargs)
            if drawn is not NotImplemented:
                return drawn
        if self.batched and func in BATCHED:
            self.said(_name(func), f"lowering: {KINDS[func]}")
            return BATCHED[func](*args, **kwargs)
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
                self.said(_name(func), "vmap")
            return result
        except RuntimeError as error:
            if not any(text in str(error) for text in _NO_RULE):
                raise
            parts = separated(func, args, kwargs)
            if parts is not None:
                target, (plain, args, kwargs) = parts
                return target.copy_(self.__torch_function__(plain, types, args, kwargs))
            self.said(_name(func), MEMBER_BY_MEMBER)
            return member_by_member(func)(*args, **kwargs)

    def _drawn(self, draws: Draws, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        """Call ``func``, which draws: the member's numbers, unless the network has a generator of its own."""
        given = has_generator((*args, *kwargs.values()))
        nested = vmap_levels() > self.levels
        if func in DRAWN and not given:
            try:
                result = DRAWN[func](NoDraws(draws) if nested else draws, *args, **kwargs)
            except WouldDrawError:
                pass
            else:
                if result is not NotImplemented:
                    self.said(_name(func), "numbers of the member's own")
                return result
        if self.batched and (given or nested):
            where = "a generator" if given else "a vmap"
            raise RuntimeError(f"{_name(func)} draws in {where} of the network's own: it can't be batched")
        if given:
            return func(*args, **kwargs)
        if self.batched:
            self.said(_name(func), MEMBER_BY_MEMBER)
        return seeded(draws, func, self.batched)(*args, **kwargs)

    def custom(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A custom function without a batching rule, member by member; what it draws are the member's own numbers."""
        self.said(name, MEMBER_BY_MEMBER)
        draws = self.draws
        if draws is None:
            return member_by_member(function)
        site = draws.site

        def one(seed: Tensor, step: Tensor, *args: Any, **kwargs: Any) -> Any:
            own = Draws(seed, step, site)
            with _Mode(own, False, None, self.products, self.said):
                result = function(*args, **kwargs)
            draws.site = own.site
            return result

        return partial(member_by_member(one), draws.seed, draws.step)


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _silent(operation: str, how: str) -> None:
    pass


@contextmanager
def lowered(
    draws: Draws | None,
    *,
    batched: bool,
    anchor: Tensor | None = None,
    products: torch.dtype | None = None,
    said: Said = _silent,
) -> Iterator[None]:
    """Within the block, calls of known operations go to their lowerings.

    Args:
        draws: The member's random numbers; None leaves them to PyTorch's generator.
        batched: Whether the block runs under ``vmap``. Then an operation without a batched form is carried out
            member by member, and said.
        anchor: A tensor with a member axis, if the tensors that the block makes are to be each member's own.
        products: The type of matrix products, where it is not the tensors' own: bfloat16 or float16.
        said: Called with an operation's name and how it is carried out.
    """
    mode = _Mode(draws, batched, anchor, products, said)
    with ExitStack() as stack:
        stack.enter_context(without_checkpoints())
        stack.enter_context(attention.without_fast_paths())
        stack.enter_context(unchecked_distributions())
        if batched:
            stack.enter_context(_no_hidden_loops())
            stack.enter_context(custom_functions(mode.custom))
            stack.enter_context(attention.masks_as_told())
        stack.enter_context(mode)
        yield


@contextmanager
def _no_hidden_loops() -> Iterator[None]:
    """Under ``vmap``, an operation without a batched form is an error that names it, not a hidden loop."""
    functorch = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    before = functorch._is_vmap_fallback_enabled()
    functorch._set_vmap_fallback_enabled(False)
    try:
        yield
    finally:
        functorch._set_vmap_fallback_enabled(before)


__all__ = ["BATCHED", "DRAWN", "MEMBER_BY_MEMBER", "lowered", "spread", "writes_into_shared"]
