"""Which parameters the gradient reaches, and what becomes of the others."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.utils._pytree import tree_leaves

from modelspace.doctor.graph import leaves, run_backward
from modelspace.doctor.subject import BATCH, Subject
from modelspace.doctor.trace import Operation, Trace

# Draws, in both modes: a branch that one draw does not take, or an expert that gets no sample, is not unused.
_DRAWS, _BATCH = 3, 32


@dataclass(frozen=True, eq=False)
class Unreached:
    """Trainable parameters that no gradient reaches, by name.

    Attributes:
        used: Those that the forward uses, with the operation that cuts the gradient.
        unused: Those that it doesn't, or whose result it drops, with their numbers.
        vanishing: Those that it uses and that move no output, with their numbers: it returns derivatives, in which
            an added constant disappears.
    """

    used: dict[str, Operation]
    unused: dict[str, int]
    vanishing: dict[str, int]


def unreached(subject: Subject) -> Unreached:
    """Follow the gradient from all that the forward returns to every parameter.

    Args:
        subject: The model; where a parameter seems to be left out, more draws of it are looked at.
    """
    trace = subject.trace
    named = {name: p for name, p in trace.module.named_parameters() if p.requires_grad}
    out = set(named) - _reached(trace)
    if not out:
        return Unreached({}, {}, {})
    batch = BATCH if subject.too_large else subject.affordable(_BATCH, 2 * _DRAWS)
    for seed in subject.each_seed(1 if subject.too_large else _DRAWS):
        for training in (False, True):
            if not out:
                break
            other = subject.traced(training=training, batch=batch, seed=seed)
            if other.failure is None:
                out -= _reached(other)
                if out and run_backward(other.result):
                    out -= {name for name, p in other.module.named_parameters() if p.grad is not None}
    vanishing = {
        name: named[name].numel()
        for name in named
        if name in out
        and not subject.too_large
        and _differentiates(trace)
        and _vanishes(subject, trace, name)
    }
    cuts = {name: _cut(trace, named[name]) for name in named if name in out and name not in vanishing}
    used = {name: operation for name, operation in cuts.items() if operation is not None}
    unused = {name: named[name].numel() for name in cuts if name not in used}
    return Unreached(used, unused, vanishing)


def _differentiates(trace: Trace) -> bool:
    """Whether the forward takes derivatives: by ``torch.autograd.grad``, or by a transform of ``torch.func``."""
    return any(
        operation.name in ("grad", "make_dual")
        or any(is_functorch_wrapped_tensor(x) for x in operation.tensors)
        for operation in trace.operations
    )


def _vanishes(subject: Subject, trace: Trace, name: str) -> bool:
    """Whether a parameter takes part in the forward and another value of it gives the same outputs."""
    parameter = trace.module.get_parameter(name)
    if not any(x is parameter for operation in trace.operations for x in operation.tensors):
        return False
    module, inputs = subject.fresh(), subject.inputs()
    before = subject.run(inputs, module=module)
    with torch.no_grad():
        moved = module.get_parameter(name)
        moved += 1 + moved.abs()
    return torch.allclose(before, subject.run(inputs, module=module), rtol=1e-4, atol=1e-6)


def _reached(trace: Trace) -> set[str]:
    outputs = [x for x in tree_leaves(trace.result) if isinstance(x, Tensor)]
    ids = {id(x) for x in leaves(*outputs)}
    return {name for name, p in trace.module.named_parameters() if id(p) in ids}


def _cut(trace: Trace, parameter: Tensor) -> Operation | None:
    """The operation after which nothing of a parameter carries a gradient; None where its result is dropped."""
    carrying = {id(parameter)}
    last: Operation | None = None
    for operation in trace.operations:
        if not any(id(x) in carrying for x in operation.tensors):
            continue
        if operation.cuts:
            last = operation
            continue
        carrying |= {id(x) for x in operation.outputs if x.requires_grad}
    return last
