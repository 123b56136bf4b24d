"""Evaluations of one point that differ."""

from collections.abc import Iterator

import torch

from modelspace.doctor.finding import Observation
from modelspace.doctor.rule import Rule
from modelspace.doctor.subject import Subject
from modelspace.doctor.trace import Operation

# The same kernels on the same numbers differ by nothing; threads may add up in another order.
_TOLERANCE = 1e-5


def _probe(subject: Subject) -> Iterator[Observation]:
    inputs = subject.inputs()
    module = subject.fresh()
    first = subject.run(inputs, module=module, seed=subject.seed)
    again = subject.run(inputs, module=module, seed=subject.seed)
    if _differ(first, again):
        yield _observed(
            subject,
            f"the second evaluation of the same inputs differs by up to {_gap(first, again)}, with the "
            "same random numbers: the forward changes the model, in evaluation mode",
        )
        return
    other = subject.run(inputs, module=subject.fresh(), seed=subject.seed + 1)
    if _differ(first, other):
        yield _observed(
            subject,
            f"another random state changes the outputs of evaluation by up to {_gap(first, other)}",
        )


def _differ(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape:
        return True
    size = float(a.double().abs().max()) or 1.0
    return float((a.double() - b.double()).abs().max()) > _TOLERANCE * size


def _gap(a: torch.Tensor, b: torch.Tensor) -> str:
    return f"{float((a - b).double().abs().max()):.3g}" if a.shape == b.shape else "its whole shape"


_DRAWING = (
    "rand",
    "dropout",
    "normal",
    "bernoulli",
    "multinomial",
    "uniform",
    "fractional",
    "exponential",
    "rrelu",
)


def _observed(subject: Subject, evidence: str) -> Observation:
    operation: Operation | None = next(
        (o for o in subject.trace.operations if any(word in o.name for word in _DRAWING)), None
    )
    return Observation(
        operation.where if operation is not None else subject.title,
        evidence + (f"; {operation.name} draws random numbers" if operation is not None else ""),
        "if self.training:\n    x = x + 0.1 * torch.randn_like(x)     # noise in training only\n"
        "x = F.dropout(x, 0.5, training=self.training)",
    )


RULE = Rule(
    "nondeterminism",
    "warning",
    "two evaluations of the same inputs differ",
    _probe,
)
