"""One output with a loss over classes, whose softmax is then always 1."""

from collections.abc import Iterator

from modelspace.doctor.finding import Observation
from modelspace.doctor.rule import Inapplicable, Rule
from modelspace.doctor.subject import Subject


def _probe(subject: Subject) -> Iterator[Observation]:
    if not subject.expected.by_class:
        raise Inapplicable(f"{subject.loss.name if subject.loss else 'the loss'} is not over classes")
    shape = list(subject.outputs.shape)
    if len(shape) > 1 and shape[1] != 1:
        return
    if len(shape) > 1:
        what = "a softmax over one class is always 1, so the loss is 0 and its gradient too"
    else:
        what = "the loss takes the whole batch for the classes of one sample"
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
