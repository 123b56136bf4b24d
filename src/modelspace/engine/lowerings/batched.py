"""A function with a batching rule of our own, seen by ``vmap`` only.

The rule receives the stacked tensors, is written in ordinary differentiable operations, and is differentiated as
it stands: no backward is needed here.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Rule = Callable[..., Tensor | None]


def batched(function: Callable[..., Tensor], rule: Rule) -> Callable[..., Tensor]:
    """``function`` of positional arguments, batched by ``rule`` under ``vmap``.

    Args:
        function: The operation for one member.
        rule: Of the member count and, for each argument, the stacked tensor with the member axis first and a flag
            whether it has one (``rule(count, (value, has), …)``), to the stacked result; None where the rule does
            not apply, and ``vmap``'s own is taken.
    """

    class Batched(torch.autograd.Function):
        @staticmethod
        def forward(*arguments: Any) -> Tensor:
            return function(*arguments)

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            pass

        @staticmethod
        def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Tensor, int]:
            pairs = [
                (value.movedim(dim, 0), True)
                if isinstance(value, Tensor) and dim is not None
                else (value, False)
                for value, dim in zip(arguments, in_dims, strict=True)
            ]
            found = rule(info.batch_size, *pairs)
            if found is None:
                found = torch.vmap(function, in_dims=in_dims)(*arguments)
            return found, 0

    return Batched.apply
