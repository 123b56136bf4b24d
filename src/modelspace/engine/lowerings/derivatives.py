"""Derivatives with respect to inputs, taken within an objective: ``x.requires_grad_()`` and ``torch.autograd.grad``.

Physics-informed networks are most often written so. ``vmap`` refuses both. But beneath it every operation is recorded
by autograd on the stacked tensors, and members do not depend on each other: so the derivative of each member's values
is that of their sum over the members, with respect to stacked inputs of which each member has its own. An input that
members share gets its member axis first, by the forward made again (``writes_into_shared``).

Those who write ``torch.func.grad`` need none of this.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._functorch.eager_transforms import enable_inplace_requires_grad

from modelspace.engine.lowerings.batched import Table, differentiated, is_own
from modelspace.engine.lowerings.memory import REFUSED


def requires_grad_(input: Tensor, requires_grad: bool = True) -> Tensor:
    """``input.requires_grad_()``, of the stacked tensor beneath."""
    if not requires_grad or differentiated():  # torch.func.grad asks for its own
        return input.requires_grad_(requires_grad)
    if not is_own(input):
        raise RuntimeError(f"requires_grad_ {REFUSED[0]} without a member axis")
    stacked, _ = _beneath(input)
    with enable_inplace_requires_grad(True):
        stacked.requires_grad_()
    return input


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """``torch.autograd.grad``, of the stacked tensors beneath."""
    if differentiated():
        return torch.autograd.grad(
            outputs, inputs, grad_outputs, retain_graph, create_graph, only_inputs, allow_unused,
            is_grads_batched, materialize_grads
        )  # fmt: skip
    ends = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    starts = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    weights = (
        [grad_outputs] if grad_outputs is None or isinstance(grad_outputs, Tensor) else list(grad_outputs)
    )
    weights += [None] * (len(ends) - len(weights))
    if is_grads_batched or not all(map(is_own, starts)):
        raise RuntimeError("torch.autograd.grad of what members share has no batched form")
    for end, weight in zip(ends, weights, strict=True):
        if weight is None and end.dim():
            raise RuntimeError("grad can be implicitly created only for scalar outputs")
    level = _level(starts[0])
    places = [_beneath(start) for start in starts]
    pairs = []
    for end, weight in zip(ends, weights, strict=True):
        if not is_own(end):
            continue  # a constant to every member
        value, place = _beneath(end)
        if weight is None:
            of_each = torch.ones_like(value)
        elif is_own(weight):
            held, at = _beneath(weight)
            of_each = held.movedim(at, place)
        else:
            of_each = weight.unsqueeze(place).expand_as(value)
        pairs.append((value, of_each))
    parts = torch.autograd.grad(
        [value for value, _ in pairs],
        [value for value, _ in places],
        [of_each for _, of_each in pairs],
        retain_graph,
        create_graph,
        allow_unused=allow_unused,
        materialize_grads=materialize_grads,
    )
    return tuple(
        None if part is None else _functorch()._add_batch_dim(part, place, level)
        for part, (_, place) in zip(parts, places, strict=True)
    )


def _functorch() -> Any:
    return torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]


def _beneath(value: Tensor) -> tuple[Tensor, int]:
    """The stacked tensor, and which of its dimensions are the members."""
    return _functorch().get_unwrapped(value), _functorch().maybe_get_bdim(value)


def _level(value: Tensor) -> int:
    return _functorch().maybe_get_level(value)


_set: Any = Tensor.requires_grad.__set__  # pyright: ignore[reportAttributeAccessIssue]

TABLE: Table = {Tensor.requires_grad_: requires_grad_, _set: requires_grad_, torch.autograd.grad: grad}
