"""Classes in another dimension than the one where the loss looks for them."""

from collections.abc import Iterator

from modelspace.doctor.finding import Observation
from modelspace.doctor.rule import Inapplicable, Rule
from modelspace.doctor.subject import BATCH, Subject


def _probe(subject: Subject) -> Iterator[Observation]:
    if not subject.expected.by_class:
        raise Inapplicable(f"{subject.loss.name if subject.loss else 'the loss'} is not over classes")
    shape = list(subject.outputs.shape)
    if len(shape) < 3:
        return
    reason = classes_are_last(subject)
    if not reason:
        return
    axes = ", ".join(str(axis) for axis in (0, len(shape) - 1, *range(1, len(shape) - 1)))
    yield Observation(
        subject.end,
        f"outputs have shape {shape}: the loss takes dimension 1, of size {shape[1]}, for the classes, "
        f"and {reason}",
        f"scores = model(x).permute({axes})     # [N, C, …]\nvalue = loss(scores, labels)",
    )


def classes_are_last(subject: Subject) -> str:
    """Why the last dimension of outputs ``[N, …, C]`` must be the classes; nothing where dimension 1 can be."""
    shape = tuple(subject.outputs.shape)
    if len(shape) < 3:
        return ""
    declared = subject.classes
    if declared is not None and shape[1] != shape[-1]:
        if shape[1] != declared and shape[-1] == declared:
            return f"{declared} classes are declared, which is the size of the last dimension"
        if shape[1] == declared:
            return ""
    labels = subject.labels
    if labels is not None and not labels.is_floating_point() and shape[1] != shape[-1]:
        if tuple(labels.shape[1:]) == shape[1:-1] != shape[2:]:
            return f"the labels have shape {list(labels.shape)}, which leaves the last dimension for them"
        if tuple(labels.shape[1:]) == shape[2:]:
            return ""
    return _grows(subject, shape)


def _grows(subject: Subject, shape: tuple[int, ...]) -> str:
    assert subject.shape is not None
    for axis, size in enumerate(subject.shape):
        for other_size in (size * 2, size // 2, size + 1, size - 1):
            if other_size < 1 or other_size == size:
                continue
            other = (*subject.shape[:axis], other_size, *subject.shape[axis + 1 :])
            found = subject.shaped(BATCH, other)
            if found is None or found.ndim != len(shape):
                continue
            if found.shape[1] != shape[1] and found.shape[-1] == shape[-1]:
                return (
                    f"inputs of shape {list(other)} make its size {found.shape[1]}, while the last dimension "
                    f"stays at {shape[-1]}: the classes are there"
                )
    return ""


RULE = Rule(
    "class-dimension",
    "error",
    "the classes are not in dimension 1, where the loss looks for them",
    _probe,
    needs=("inputs", "loss"),
)
