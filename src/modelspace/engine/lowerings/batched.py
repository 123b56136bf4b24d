"""A function with a batching rule of our own, seen by ``vmap`` only.

The rule receives the stacked tensors, is written in ordinary differentiable operations, and is differentiated as
it stands: no backward is needed here.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Rule = Callable[..., Any]


def batched(function: Callable[..., Any], rule: Rule) -> Callable[..., Any]:
    """``function`` of positional arguments, batched by ``rule`` under ``vmap``.

    Args:
        function: The operation for one member: of tensors and constants, to a tensor or a tuple of tensors.
        rule: Of the member count and, for each argument, the stacked tensor with the member axis first and a flag
            whether it has one (``rule(count, (value, has), …)``), to the stacked result or a tuple of them; None
            where the rule does not apply, and ``vmap``'s own is taken.
    """

    class Batched(torch.autograd.Function):
        @staticmethod
        def forward(*arguments: Any) -> Any:
            return function(*arguments)

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            pass

        @staticmethod
        def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
            pairs = [
                (value.movedim(dim, 0), True)
                if isinstance(value, Tensor) and dim is not None
                else (value, False)
                for value, dim in zip(arguments, in_dims, strict=True)
            ]
            found = rule(info.batch_size, *pairs)
            if found is None:
                found = torch.vmap(function, in_dims=in_dims)(*arguments)
            return found, 0 if isinstance(found, Tensor) else (0,) * len(found)

    return Batched.apply


def member_by_member(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` of any arguments, computed under ``vmap`` one member after the other: for what can't be batched.

    Args:
        function: Of tensors, constants and containers of them, to the same.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        leaves, structure = pytree.tree_flatten((args, kwargs))
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        result: list[Any] = []

        def flat(*tensors: Tensor) -> tuple[Tensor, ...]:
            filled = list(leaves)
            for place, tensor in zip(places, tensors, strict=True):
                filled[place] = tensor
            args, kwargs = pytree.tree_unflatten(filled, structure)
            outputs, shape = pytree.tree_flatten(function(*args, **kwargs))
            result[:] = [outputs, shape]
            return tuple(x for x in outputs if isinstance(x, Tensor))

        def rule(count: int, *pairs: tuple[Tensor, bool]) -> tuple[Tensor, ...]:
            rows = [flat(*[value[k] if own else value for value, own in pairs]) for k in range(count)]
            return tuple(torch.stack(column) for column in zip(*rows, strict=True))

        stacked = iter(batched(flat, rule)(*[leaves[i] for i in places]))
        outputs, shape = result
        filled = [next(stacked) if isinstance(x, Tensor) else x for x in outputs]
        return pytree.tree_unflatten(filled, shape)

    return call
