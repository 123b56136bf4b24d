"""An in-place operation that overwrites what the backward needs."""

import re
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from modelspace.doctor.finding import Observation
from modelspace.doctor.rule import Rule
from modelspace.doctor.subject import Subject
from modelspace.doctor.trace import Operation, Trace


def _probe(subject: Subject) -> Iterator[Observation]:
    for training in (True, False):
        trace = subject.traced(training=training)
        if trace.failure is not None:
            message = str(trace.cause)
            if "in-place" in message or "inplace" in message:
                last = trace.operations[-1] if trace.operations else None
                yield _observed(last.where if last else subject.title, f"the forward fails: {_line(message)}")
                return
            continue
        message = _backward(trace)
        if "inplace" in message or "in-place" in message:
            writer = _writer(trace, message)
            where = writer.where if writer is not None else subject.title
            did = f"{writer.name} writes into it after it was used; " if writer is not None else ""
            yield _observed(where, f"{did}the backward fails: {_line(message)}")
            return


def _backward(trace: Trace) -> str:
    """What the backward complains of."""
    outputs = [x for x in tree_leaves(trace.result) if isinstance(x, Tensor) and x.requires_grad]
    if not outputs:
        return ""
    try:
        torch.autograd.backward(outputs, [torch.ones_like(x) for x in outputs])
    except RuntimeError as error:
        return str(error)
    return ""


def _writer(trace: Trace, message: str) -> Operation | None:
    """The last in-place operation on a tensor of the shape that the complaint names."""
    shape = re.search(r"\[[\w.]+ \[([\d, ]*)\]\]", message)
    wanted = [int(size) for size in shape[1].split(",") if size.strip()] if shape else None
    writers = [o for o in trace.operations if o.written]
    fitting = [o for o in writers if wanted is None or any(list(x.shape) == wanted for x in o.written)]
    return (fitting or writers or [None])[-1]


def _line(message: str) -> str:
    return message.strip().splitlines()[0].split("; ")[0].split(". Hint")[0]


def _observed(where: str, evidence: str) -> Observation:
    return Observation(
        where,
        evidence,
        "x = x + y     # not x += y\nx = torch.sigmoid(x)     # not x.sigmoid_(); nn.ReLU() not inplace=True",
    )


RULE = Rule(
    "inplace-backward",
    "error",
    "an in-place operation overwrites what the backward needs",
    _probe,
    needs=("inputs",),
    survives_failure=True,
)
