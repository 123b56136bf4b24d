"""Outputs of one sample that depend on another sample of the batch."""

from collections.abc import Iterator

import torch
from torch import Tensor

from modelspace.doctor.finding import Observation
from modelspace.doctor.private import seed_all
from modelspace.doctor.rule import Inapplicable, Rule
from modelspace.doctor.subject import BATCH, Subject
from modelspace.doctor.trace import Trace, record

# A batch of the same size takes the same kernels, so what a sample gets differs by rounding at most unless it depends
# on its neighbours. In float64 that is 1e-16 of it, and a dependence that many layers have dampened still shows.
_TOLERANCES = {torch.float64: 1e-10}
_TOLERANCE = 1e-5


def _probe(subject: Subject) -> Iterator[Observation]:
    inputs = subject.inputs()
    changed = inputs.clone()
    changed[0] = subject.inputs(BATCH + 1, scale=3.0, seed=subject.seed + 1)[-1]
    try:
        first, second = (_recorded(subject, x, double=True) for x in (inputs, changed))
    except Exception:  # a forward with types of its own
        first, second = (_recorded(subject, x, double=False) for x in (inputs, changed))
    before, after = first.outputs.detach(), second.outputs.detach()
    if not before.ndim or before.shape[0] != BATCH:
        raise Inapplicable("the outputs have not one row a sample; see batch-reshape")
    if not torch.equal(before, _recorded(subject, inputs, double=before.dtype == torch.float64).outputs):
        raise Inapplicable("two evaluations differ; see nondeterminism")
    if after.shape != before.shape:
        raise Inapplicable("the shape of the outputs depends on the values of the inputs")
    moved = _moved(before, after)
    if not bool((moved > 0).any()):
        return
    yield Observation(
        _place(first, second) or subject.end,
        f"in evaluation mode, another first sample moves the outputs of {int((moved > 0).sum())} of the {BATCH - 1} "
        f"others, by up to {float(moved.max()):.3g} (outputs are of size {float(before.abs().max()):.3g})",
        "# a sample's outputs may depend on that sample alone: name the dimensions that are reduced\n"
        "weights = scores.softmax(dim=-1)     # not dim=0\n"
        "x = nn.MultiheadAttention(…, batch_first=True)     # for [batch, time, features]\n"
        "nn.BatchNorm1d(n, track_running_stats=True)",
    )


def _recorded(subject: Subject, inputs: Tensor, *, double: bool) -> Trace:
    module = subject.fresh()
    if double:
        module, inputs = module.double(), inputs.double() if inputs.is_floating_point() else inputs
    seed_all(subject.seed)
    with torch.no_grad():
        trace = record(module, inputs)
    _ = trace.outputs  # raises where the forward failed
    return trace


def _moved(before: Tensor, after: Tensor) -> Tensor:
    """How far the outputs of each other sample moved; 0 where that can be rounding."""
    size = float(before.double().abs().max()) or 1.0
    moved = (after.double() - before.double())[1:].abs().reshape(BATCH - 1, -1).amax(1)
    return torch.where(moved > _TOLERANCES.get(before.dtype, _TOLERANCE) * size, moved, 0.0)


def _place(first: Trace, second: Trace) -> str:
    """The first operation whose outputs mix, if the two forwards took the same way."""
    if len(first.operations) != len(second.operations):
        return ""
    for one, other in zip(first.operations, second.operations, strict=True):
        for a, b in zip(one.outputs, other.outputs, strict=False):
            if a.shape != b.shape or not a.is_floating_point() or not a.numel() or a.shape[:1] != (BATCH,):
                continue
            if bool((_moved(a, b) > 0).any()):
                return one.where
    return ""


RULE = Rule(
    "batch-mixing",
    "error",
    "the outputs of one sample depend on the others of its batch, in evaluation mode",
    _probe,
)
