"""Two linear maps in a row, which are one linear map."""

from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

from modelspace.doctor.finding import Observation
from modelspace.doctor.location import place
from modelspace.doctor.rule import Rule
from modelspace.doctor.subject import Subject
from modelspace.doctor.trace import REARRANGING, Operation, Trace

_LINEAR = {"linear": 0, "conv1d": 1, "conv2d": 2, "conv3d": 3, "conv_transpose1d": 1, "conv_transpose2d": 2}
# In evaluation mode they are the identity, or an affine map of each channel.
_TRANSPARENT = frozenset({"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "batch_norm"})


class _Map(NamedTuple):
    """A linear map's numbers of inputs and outputs, and of channels that are not mixed."""

    entering: int
    leaving: int
    groups: int


def _probe(subject: Subject) -> Iterator[Observation]:
    trace = subject.trace
    for operation in trace.operations:
        second = _map(operation)
        if second is None:
            continue
        previous = _before(trace, operation)
        first = _map(previous) if previous is not None else None
        if previous is None or first is None:
            continue
        # Fewer numbers between than at either end make a factorisation, of a rank that no single layer has; a
        # depthwise convolution with a pointwise one is another.
        middle = min(first.leaving, second.entering)
        if first.groups > 1 or second.groups > 1 or middle < min(first.entering, second.leaving):
            continue
        if operation.layer is previous.layer and isinstance(operation.layer, nn.MultiheadAttention):
            continue
        yield Observation(
            f"{_place(previous)} and {_place(operation)}",
            f"{previous.name} {first.entering} → {first.leaving} goes straight into {operation.name} "
            f"{second.entering} → {second.leaving}: together they are one linear map, with "
            f"{previous.tensors[1].numel() + operation.tensors[1].numel():,} weights for it",
            "x = self.second(torch.relu(self.first(x)))     # a non-linearity between the two, or one layer",
        )


def _map(operation: Operation) -> _Map | None:
    """What an operation maps, if it is a linear one of weights that are trained: a frozen one can't be merged."""
    if operation.name not in _LINEAR or len(operation.tensors) < 2:
        return None
    weight = operation.tensors[1]
    if not isinstance(weight, nn.Parameter) or weight.ndim < 2 or not weight.requires_grad:
        return None
    groups = getattr(operation.layer, "groups", operation.keywords.get("groups", 1))
    if not isinstance(groups, int):
        groups = 1
    leaving, entering = weight.shape[0], weight.shape[1]
    if operation.name.startswith("conv_transpose"):
        leaving, entering = entering, leaving
    elif operation.name != "linear" and groups == 1 and len(operation.arguments) > 6:
        groups = int(operation.arguments[6])
    return _Map(entering, leaving, groups)


def _before(trace: Trace, operation: Operation) -> Operation | None:
    """The operation that an input comes from through the identity alone, if nothing else uses it on the way."""
    while True:
        tensor = operation.tensors[0]
        previous = trace.producer(tensor, operation)
        if previous is None or len(trace.consumers(tensor)) > 1:
            return None
        if previous.name not in REARRANGING and previous.name not in _TRANSPARENT:
            return previous
        if not previous.tensors:
            return None
        operation = previous


def _place(operation: Operation) -> str:
    return place(operation.path, operation.line, type(operation.layer).__name__)


RULE = Rule(
    "linear-chain",
    "warning",
    "two linear maps follow each other with no non-linearity between them",
    _probe,
    needs=("inputs",),
)
