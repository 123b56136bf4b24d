"""Outputs in a column against labels in a row, which broadcast to a square."""

from collections.abc import Iterator

from modelspace.doctor.finding import Observation
from modelspace.doctor.rule import Inapplicable, Rule
from modelspace.doctor.subject import Subject


def _probe(subject: Subject) -> Iterator[Observation]:
    if subject.expected.by_class:
        raise Inapplicable("a loss over classes does not broadcast")
    assert subject.labels is not None
    outputs, labels = list(subject.outputs.shape), list(subject.labels.shape)
    if outputs[1:] == labels[1:] or len(outputs) == len(labels):
        return
    longer, shorter = sorted((outputs, labels), key=len, reverse=True)
    if longer[1:-1] != shorter[1:] or longer[-1] != 1:
        return
    count = outputs[0]
    column = len(outputs) > len(labels)
    shapes = f"outputs have shape {_named(outputs)} and labels {_named(labels)}"
    yield Observation(
        subject.end,
        f"{shapes}: they broadcast to {count}×{count} pairs for a batch of {count}, so every output is drawn to "
        "the mean of all labels",
        "value = loss(model(x).squeeze(-1), labels)"
        if column
        else "value = loss(model(x), labels.squeeze(-1))",
    )


def _named(shape: list[int]) -> str:
    return "(" + ", ".join(["N", *map(str, shape[1:])]) + ("," if len(shape) == 1 else "") + ")"


RULE = Rule(
    "column-broadcast",
    "error",
    "outputs (N, 1) and labels (N) broadcast to N × N pairs",
    _probe,
    needs=("inputs", "loss", "data"),
)
