"""Another number of outputs than there are classes or labels."""

from collections.abc import Iterator

from modelspace.doctor.finding import Observation
from modelspace.doctor.rule import Inapplicable, Rule
from modelspace.doctor.rules.class_dimension import classes_are_last
from modelspace.doctor.subject import Subject


def _probe(subject: Subject) -> Iterator[Observation]:
    shape = tuple(subject.outputs.shape)
    if subject.expected.by_class:
        if len(shape) < 2 or shape[1] == 1 or classes_are_last(subject):
            return  # single-output and class-dimension say more
        yield from _classes(subject, shape[1])
    elif subject.labels is not None:
        yield from _elements(subject, shape)
    elif subject.classes is not None and subject.expected.labels in ("unit", "multi-hot", "sign"):
        outputs = subject.outputs[0].numel()
        if outputs not in (1, subject.classes) or (outputs == 1 and subject.classes > 2):
            yield _observed(subject, outputs, subject.classes, f"{subject.classes} classes are declared")
    else:
        raise Inapplicable("needs classes=, --classes, or labels")


def _classes(subject: Subject, outputs: int) -> Iterator[Observation]:
    labels = subject.labels
    integers = labels is not None and not labels.is_floating_point() and labels.numel()
    needed = int(labels.max()) + 1 if labels is not None and integers else 0
    if subject.classes is not None and outputs != subject.classes:
        yield _observed(subject, outputs, subject.classes, f"{subject.classes} classes are declared")
    elif outputs < needed and not (labels is not None and int(labels.min()) == 1 and needed == outputs + 1):
        yield _observed(subject, outputs, needed, f"the labels go up to {needed - 1}")
    elif subject.classes is None and not integers:
        raise Inapplicable("needs classes=, --classes, or labels")


def _elements(subject: Subject, shape: tuple[int, ...]) -> Iterator[Observation]:
    assert subject.labels is not None
    wanted = tuple(subject.labels.shape[1:])
    if shape[1:] == wanted or subject.expected.labels in ("distribution", None):
        return
    if [size for size in shape[1:] if size != 1] == [size for size in wanted if size != 1]:
        return  # a column: column-broadcast says more
    outputs = subject.outputs[0].numel()
    needed = subject.labels[0].numel()
    if outputs != needed:
        yield _observed(subject, outputs, needed, f"the labels have {needed} numbers a sample")


def _observed(subject: Subject, outputs: int, needed: int, why: str) -> Observation:
    return Observation(
        subject.end,
        f"the model has {outputs} output{'s' if outputs != 1 else ''} a sample and {why}",
        f"self.fc = nn.Linear(self.fc.in_features, {needed})",
    )


RULE = Rule(
    "output-count",
    "error",
    "the number of outputs is not that of the classes or labels",
    _probe,
    needs=("inputs", "loss"),
)
