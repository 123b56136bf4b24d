"""How an operation is carried out for many members at once, where ``vmap`` alone lacks it or does it badly.

One file a kind of operation, with one or both of two tables from the function that a module calls to the function
called in its place; the user's module is never touched. ``TABLE`` changes only how an operation is carried out, and is
used under ``vmap`` alone. ``DRAWN`` changes which random numbers it draws, and holds in the plain loop too: its
functions take the member's ``Draws`` before the operation's own arguments.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from modelspace.engine.lowerings import convolution, dropout, linear, views
from modelspace.engine.lowerings.batched import member_by_member
from modelspace.engine.lowerings.checkpoints import without_checkpoints
from modelspace.engine.lowerings.composite import opened
from modelspace.engine.lowerings.custom import custom_functions
from modelspace.engine.lowerings.spreading import FACTORIES, spread, writes_into_shared
from modelspace.engine.randomness import Draws

_BATCHED = (convolution, linear, views)
_RANDOM = (dropout,)

Table = Mapping[Callable[..., Any], Callable[..., Any]]
BATCHED: Table = {function: lowering for kind in _BATCHED for function, lowering in kind.TABLE.items()}
DRAWN: Table = {function: lowering for kind in _RANDOM for function, lowering in kind.DRAWN.items()}

MEMBER_BY_MEMBER = "member by member"
_NO_RULE = ("Batching rule not implemented", "hit the vmap fallback which is currently disabled")

Said = Callable[[str, str], None]


class _Mode(TorchFunctionMode):
    """Sends each call to its lowering.

    Args:
        draws: The member's random numbers; None leaves them to PyTorch's generator.
        batched: Whether the calls run under ``vmap``.
        anchor: A tensor with a member axis, if the tensors that a forward makes are to be each member's own.
        said: Called with an operation's name and how it is carried out.
    """

    def __init__(self, draws: Draws | None, batched: bool, anchor: Tensor | None, said: Said):
        super().__init__()
        self.draws = draws
        self.batched = batched
        self.anchor = anchor
        self.said = said

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the lowering of ``func``; or what ``func`` is made of; or ``func`` itself, if need be one by one."""
        kwargs = kwargs or {}
        if self.draws is not None and func in DRAWN:
            return DRAWN[func](self.draws, *args, **kwargs)
        if self.batched and func in BATCHED:
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
            return func(*args, **kwargs)
        except RuntimeError as error:
            if not any(text in str(error) for text in _NO_RULE):
                raise
            self.said(func.__name__, MEMBER_BY_MEMBER)
            return member_by_member(func)(*args, **kwargs)




def _silent(operation: str, how: str) -> None:
    pass


@contextmanager
def lowered(
    draws: Draws | None, *, batched: bool, anchor: Tensor | None = None, said: Said = _silent
) -> Iterator[None]:
    """Within the block, calls of known operations go to their lowerings.

    Args:
        draws: The member's random numbers; None leaves them to PyTorch's generator.
        batched: Whether the block runs under ``vmap``. Then an operation without a batched form is carried out
            member by member, and said.
        anchor: A tensor with a member axis, if the tensors that the block makes are to be each member's own.
        said: Called with an operation's name and how it is carried out.
    """
    with ExitStack() as stack:
        stack.enter_context(without_checkpoints())
        if batched:
            stack.enter_context(_no_hidden_loops())
            stack.enter_context(custom_functions(lambda name: said(name, MEMBER_BY_MEMBER)))
            # Attention as matrix products has a batched form, the fused kernels have none.
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(_Mode(draws, batched, anchor, said))
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
