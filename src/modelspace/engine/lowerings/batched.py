"""Functions with a batching rule of our own, seen by ``vmap`` only.

A rule receives the stacked tensors, is written in ordinary differentiable operations, and is differentiated as it
stands: no backward is needed here.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Function = Callable[..., Any]
Table = Mapping[Function, Function]  # from what a module calls to what is called in its place
Pair = tuple[Any, bool]  # an argument, its member axis first, and whether it has one


def batched(function: Function, rule: Function, *arguments: Any) -> Any:
    """Call ``function``, by ``rule`` under ``vmap``.

    The function is the operation for one member: of tensors and constants, to a tensor or a tuple of tensors. The
    rule is of the member count and each argument's pair, to the stacked result or a tuple of them; None where it does
    not apply, and ``vmap``'s own is taken. Within a derivative of the network's own (``torch.func.grad``) the
    function
    itself is called, which that can differentiate.
    """
    if differentiated():
        return function(*arguments)
    return _Batched.apply(function, rule, *arguments)


class _Batched(torch.autograd.Function):
    @staticmethod
    def forward(function: Function, rule: Function, *arguments: Any) -> Any:
        return function(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *given: Any) -> tuple[Any, Any]:
        function, rule, *arguments = given
        dims = in_dims[2:]
        pairs = [
            (value.movedim(dim, 0), True) if isinstance(value, Tensor) and dim is not None else (value, False)
            for value, dim in zip(arguments, dims, strict=True)
        ]
        result = rule(info.batch_size, *pairs)
        if result is None:
            result = torch.vmap(function, in_dims=dims)(*arguments)
        return result, 0 if isinstance(result, Tensor) else (0,) * len(result)


def own(pair: Pair, count: int) -> Any:
    """Return the value with a member axis; None as it is."""
    value, stacked = pair
    return value if stacked or value is None else value.expand(count, *value.shape)


def is_own(value: Any) -> bool:
    """Tell whether ``vmap`` sees a member axis in a value."""
    functorch: Any = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    return isinstance(value, Tensor) and functorch.is_batchedtensor(value)


def vmap_levels() -> int:
    """Return how many ``vmap``s we are in."""
    functorch: Any = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    stack = functorch.get_interpreter_stack() or ()
    return sum(interpreter.key() == functorch.TransformType.Vmap for interpreter in stack)


def differentiated() -> bool:
    """Tell whether we are within a ``torch.func`` derivative."""
    functorch: Any = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    kinds = functorch.TransformType
    stack = functorch.get_interpreter_stack() or ()
    return any(interpreter.key() in (kinds.Grad, kinds.Jvp) for interpreter in stack)


def member_by_member(function: Function, *args: Any, **kwargs: Any) -> Any:
    """Call ``function``, of tensors in any nest, for one member after the other under ``vmap``."""
    leaves, structure = pytree.tree_flatten((args, kwargs))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    outputs: list[Any] = []
    shape: Any = None

    def flat(*tensors: Tensor) -> tuple[Tensor, ...]:
        nonlocal outputs, shape
        filled = list(leaves)
        for place, tensor in zip(places, tensors, strict=True):
            filled[place] = tensor
        args, kwargs = pytree.tree_unflatten(filled, structure)
        outputs, shape = pytree.tree_flatten(function(*args, **kwargs))
        return tuple(x for x in outputs if isinstance(x, Tensor))

    def rule(count: int, *pairs: Pair) -> tuple[Tensor, ...]:
        rows = [flat(*[value[k] if stacked else value for value, stacked in pairs]) for k in range(count)]
        return tuple(torch.stack(column) for column in zip(*rows, strict=True))

    results = iter(batched(flat, rule, *[leaves[i] for i in places]))
    return pytree.tree_unflatten([next(results) if isinstance(x, Tensor) else x for x in outputs], shape)
