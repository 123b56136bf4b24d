"""A function of nested tuples and dicts as one of the tensors in them, and back."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils import _pytree as pytree


class Flat(NamedTuple):
    """A function without the nesting of its arguments and of what it gives.

    Attributes:
        tensors: Those in the example arguments, in order.
        function: Of such tensors to a list; what else the arguments hold is as in the examples.
        nested: Makes of a program like ``function``, which was called before, one like the function that was given.
    """

    tensors: list[Tensor]
    function: Callable[..., list[Any]]
    nested: Callable[[Callable[..., Sequence[Any]]], Callable[..., Any]]


def flat(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Flat:
    """The function by its tensors.

    Args:
        function: Of nested tuples and dicts of tensors (and constants), to the same.
        arguments: Examples; later ones have the same structure, shapes and constants.
    """
    examples, structure = pytree.tree_flatten(arguments)
    positions = [i for i, leaf in enumerate(examples) if isinstance(leaf, Tensor)]
    constants = [None if isinstance(leaf, Tensor) else leaf for leaf in examples]
    output_structure: Any = None

    def of_tensors(*tensors: Tensor) -> list[Any]:
        nonlocal output_structure
        leaves = list(constants)
        for position, tensor in zip(positions, tensors, strict=True):
            leaves[position] = tensor
        outputs, output_structure = pytree.tree_flatten(function(*pytree.tree_unflatten(leaves, structure)))
        return outputs

    def nested(program: Callable[..., Sequence[Any]]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            leaves = pytree.tree_leaves(arguments)
            return pytree.tree_unflatten(program(*[leaves[i] for i in positions]), output_structure)

        return call

    return Flat([examples[i] for i in positions], of_tensors, nested)
