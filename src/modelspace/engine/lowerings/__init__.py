"""How an operation is carried out for many members at once, where ``vmap`` alone lacks it or does it badly.

One file a kind of operation. Each file's ``TABLE`` maps the function that a module calls to the function called
in its place; the user's module is never touched. ``MEMBER`` tables change what one member computes (its random
numbers); ``BATCHED`` tables only how, and are used under ``vmap`` alone.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from modelspace.engine.lowerings import convolution, dropout, linear, views

BATCHED: Mapping[Callable[..., Any], Callable[..., Any]] = {
    **convolution.TABLE,
    **linear.TABLE,
    **views.TABLE,
}


class Lowered(TorchFunctionMode):
    """While active, calls of known operations go to their lowerings.

    Args:
        seed: The member's seed, for random operations; None leaves them to PyTorch's generator.
        step: The optimizer step.
        batched: Whether the call runs under ``vmap``.
    """

    def __init__(self, seed: Tensor | None, step: Tensor | None, *, batched: bool):
        super().__init__()
        self._table: dict[Callable[..., Any], Callable[..., Any]] = dict(BATCHED) if batched else {}
        if seed is not None and step is not None:
            self._table |= dropout.table(seed, step)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call the lowering of ``func``, or ``func`` itself."""
        return self._table.get(func, func)(*args, **(kwargs or {}))


__all__ = ["BATCHED", "Lowered"]
