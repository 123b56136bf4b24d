"""One output with a loss over classes, whose softmax is then always 1."""

from collections.abc import Iterator

from modelspace.doctor.finding import Observation
from modelspace.doctor.rule import Inapplicable, Rule
from modelspace.doctor.rules.class_dimension import classes_are_last
from modelspace.doctor.subject import Subject


def _probe(subject: Subject) -> Iterator[Observation]:
    if not subject.expected.by_class:
        raise Inapplicable(f"{subject.loss.name if subject.loss else 'the loss'} is not over classes")
    shape = list(subject.outputs.shape)
    last = classes_are_last(subject)
    if len(shape) == 1:
        what = "the loss takes the whole batch for the classes of one sample"
    elif last and shape[-1] == 1:
        what = f"one number for each of {shape[1]} places, which the loss takes for {shape[1]} classes"
    elif len(shape) > 1 and shape[1] == 1 and not last:
        what = "a softmax over one class is always 1, so the loss is 0 and its gradient too"
    else:
        return  # of a single number for the whole batch batch-reshape says more, of classes elsewhere class-dimension
    yield Observation(
        subject.end,
        f"outputs have shape {shape}: {what}",
        "# either one output for each class\nself.fc = nn.Linear(self.fc.in_features, 2)\n"
        "# or, with one output, a loss of two classes on labels 0.0 and 1.0\n"
        "loss = nn.BCEWithLogitsLoss()\nvalue = loss(model(x).squeeze(1), labels.float())",
    )


RULE = Rule(
    "single-output",
    "error",
    "one output with a loss over classes: nothing can be learnt",
    _probe,
    needs=("inputs", "loss"),
)
