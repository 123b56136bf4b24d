"""Outputs of one sample that depend on another sample of the batch."""

from collections.abc import Iterator

import torch

from modelspace.doctor.finding import Observation
from modelspace.doctor.rule import Inapplicable, Rule
from modelspace.doctor.subject import BATCH, Subject
from modelspace.doctor.trace import record

# A batch of the same size takes the same kernels; what differs more than rounding does depends on the neighbour.
_TOLERANCE = 1e-4


def _probe(subject: Subject) -> Iterator[Observation]:
    inputs = subject.inputs()
    before = subject.run(inputs)
    if not before.ndim or before.shape[0] != BATCH:
        raise Inapplicable("the outputs have not one row a sample; see batch-reshape")
    if not torch.equal(before, subject.run(inputs, seed=subject.seed)):
        raise Inapplicable("two evaluations differ; see nondeterminism")
    changed = inputs.clone()
    changed[0] = subject.inputs(BATCH + 1, scale=3.0, seed=subject.seed + 1)[-1]
    after = subject.run(changed)
    if after.shape != before.shape:
        raise Inapplicable("the shape of the outputs depends on the values of the inputs")
    size = float(before.double().abs().max()) or 1.0
    moved = (
        (after - before)[1:].double().abs().amax(tuple(range(1, before.ndim)))
        if before.ndim > 1
        else (after - before)[1:].double().abs()
    )
    if float(moved.max()) <= _TOLERANCE * size:
        return
    yield Observation(
        _place(subject, inputs, changed),
        f"in evaluation mode, another first sample moves the outputs of {int((moved > _TOLERANCE * size).sum())} of "
        f"the {BATCH - 1} others, by up to {float(moved.max()):.3g} (outputs are of size {size:.3g})",
        "# a sample's outputs may depend on that sample alone: name the dimensions that are reduced\n"
        "weights = scores.softmax(dim=-1)     # not dim=0\n"
        "x = nn.MultiheadAttention(…, batch_first=True)     # for [batch, time, features]\n"
        "nn.BatchNorm1d(n, track_running_stats=True)",
    )


def _place(subject: Subject, inputs: torch.Tensor, changed: torch.Tensor) -> str:
    """The first operation whose outputs mix, of two forwards that took the same way."""
    first = record(subject.fresh(), inputs)
    second = record(subject.fresh(), changed)
    if len(first.operations) != len(second.operations):
        return subject.end
    for one, other in zip(first.operations, second.operations, strict=True):
        for a, b in zip(one.outputs, other.outputs, strict=False):
            if a.shape != b.shape or not a.is_floating_point() or not a.ndim or a.shape[0] != BATCH:
                continue
            size = float(a.detach().double().abs().max()) or 1.0
            if float((a - b).detach()[1:].double().abs().max()) > _TOLERANCE * size:
                return one.where
    return subject.end


RULE = Rule(
    "batch-mixing",
    "error",
    "the outputs of one sample depend on the others of its batch, in evaluation mode",
    _probe,
)
