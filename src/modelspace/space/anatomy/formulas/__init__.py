"""FLOP formulas of operations: PyTorch's own, those that it lacks, and the user's.

One multiply-and-add is two FLOP, a complex one eight. A formula is called as the operation was, with shapes in place
of tensors, and with ``out_shape``, the shape of the result.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry, shape_wrapper

from modelspace.errors import ModelspaceError
from modelspace.space.anatomy.formulas import attention, convolutions, products, recurrent

Formula = Callable[..., int]

_registered: dict[Any, Formula] = {}


def register_flop_formula(operation: Any, formula: Formula) -> None:
    """Count an operation by this formula from now on, in this process.

    Args:
        operation: ``torch.ops.library.name``.
        formula: Called as the operation is, with a shape in place of each tensor, and ``out_shape``; gives the
            FLOP, a multiply-and-add being two.

    Raises:
        ModelspaceError: it is not an operation, or the formula can't be called.

    Example:
        >>> def product(a, b, *, out_shape):
        ...     return 2 * a[0] * a[1] * b[1]
        >>> register_flop_formula(torch.ops.aten._int_mm, product)
    """
    _registered.update(checked({operation: formula}))


def checked(formulas: Mapping[Any, Formula]) -> dict[Any, Formula]:
    """The same formulas, told to take tensors; an overload stands for its operation.

    Raises:
        ModelspaceError: a key is not an operation, or a value can't be called.
    """
    found = {}
    for operation, formula in formulas.items():
        if isinstance(operation, torch._ops.OpOverload):
            operation = operation._overloadpacket
        if not isinstance(operation, torch._ops.OpOverloadPacket | torch._ops.HigherOrderOperator):
            raise ModelspaceError(
                f"a FLOP formula belongs to an operation, torch.ops.library.name; received {operation!r}"
            )
        if not callable(formula):
            raise ModelspaceError(
                f"the FLOP formula of {operation} is a function of shapes; received {formula!r}"
            )
        found[operation] = shape_wrapper(formula)
    return found


def all_formulas(more: Mapping[Any, Formula] | None = None) -> dict[Any, Formula]:
    """Every formula known: those given win over the registered ones, ours over PyTorch's.

    Args:
        more: The user's own, for this call.

    Raises:
        ModelspaceError: as for `register_flop_formula`.
    """
    ours = {
        packet: formula
        for table in (
            flop_registry,
            products.FORMULAS,
            convolutions.FORMULAS,
            attention.FORMULAS,
            recurrent.FORMULAS,
        )
        for packet, formula in table.items()
    }
    return {**{p: _by_type(f) for p, f in ours.items()}, **_registered, **checked(more or {})}


def _by_type(formula: Formula) -> Formula:
    """The formula of a product that may be complex: four real multiplications and additions for each."""

    def counted(*args: Any, **kwargs: Any) -> int:
        real = formula(*args, **kwargs)
        return 4 * real if any(isinstance(x, Tensor) and x.is_complex() for x in args) else real

    return counted
