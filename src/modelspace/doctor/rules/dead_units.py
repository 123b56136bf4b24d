"""Units that are zero for every input before any training."""

from collections.abc import Iterator

from torch import Tensor

from modelspace.doctor.finding import Observation
from modelspace.doctor.rule import Rule
from modelspace.doctor.subject import Subject
from modelspace.doctor.trace import REARRANGING, Operation, Trace

_RECTIFIERS = ("relu", "relu6", "threshold", "hardtanh", "clamp_min", "clamp", "max")
_BATCH, _DRAWS = 64, 3
# A few units of a narrow layer are dead by chance; half of a layer, at three seeds, is not chance.
_SHARE = 0.5


def _probe(subject: Subject) -> Iterator[Observation]:
    batch = subject.affordable(_BATCH, _DRAWS)
    shares: list[dict[int, tuple[float, int, Operation]]] = []
    for seed in subject.each_seed(_DRAWS):
        trace = subject.traced(training=False, batch=batch, seed=seed)
        shares.append(
            {i: found for i, o in enumerate(trace.operations) if (found := _dead(trace, o)) is not None}
        )
    for index, (_, units, operation) in shares[0].items():
        worst = [draw[index][0] for draw in shares if index in draw]
        if len(worst) == len(shares) and min(worst) > _SHARE:
            yield Observation(
                operation.where,
                f"{round(shares[0][index][0] * units)} of {units} units are 0 for all of {batch} random inputs at "
                f"initialisation ({len(shares)} draw{'s' if len(shares) > 1 else ''}): no gradient ever reaches them",
                "nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')\nnn.init.zeros_(layer.bias)",
            )
            return


def _dead(trace: Trace, operation: Operation) -> tuple[float, int, Operation] | None:
    """The share of units that never move, their number, and where."""
    if operation.name.rstrip("_") not in _RECTIFIERS or len(operation.outputs) != 1:
        return None
    values = operation.outputs[0].detach()
    if values.ndim < 2 or values.shape[0] != len(trace.inputs) or not values.is_floating_point():
        return None
    if any(x.numel() != values.numel() for x in operation.tensors if x.ndim):
        return None
    axis = _feature_axis(trace, operation, values)
    if _receives_nothing(trace, operation):
        return None
    units = values.movedim(axis, 0).flatten(1)
    dead = (units == 0).all(1)
    return float(dead.double().mean()), len(dead), operation


def _receives_nothing(trace: Trace, operation: Operation) -> bool:
    """Whether the layer before gets zeros alone: a branch that is meant to begin at nothing."""
    source = trace.producer(operation.tensors[0], operation)
    while source is not None and source.name in (*REARRANGING, "batch_norm") and source.tensors:
        source = trace.producer(source.tensors[0])
    return source is not None and len(source.tensors) > 1 and not bool(source.tensors[0].detach().any())


def _feature_axis(trace: Trace, operation: Operation, values: Tensor) -> int:
    """Dimension 1 for planes of channels, the last one for vectors."""
    source = trace.producer(operation.tensors[0], operation)
    if source is not None and source.name == "linear":
        return values.ndim - 1
    return 1


RULE = Rule(
    "dead-units",
    "warning",
    "more than half of a layer's units are 0 for every input, before any training",
    _probe,
)
