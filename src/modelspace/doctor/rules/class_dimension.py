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
    if shape[-1] == 1:
        return  # single-output says more
    reason = classes_are_last(subject)
    if not reason:
        return
    axes = ", ".join(str(axis) for axis in (0, len(shape) - 1, *range(1, len(shape) - 1)))
    moved = f"permute({axes})     # [N, C, …]" if set(shape[1:-1]) != {1} else "flatten(1)     # [N, C]"
    yield Observation(
        subject.end,
        f"outputs have shape {shape}: the loss takes dimension 1, of size {shape[1]}, for the classes, "
        f"and {reason}",
        f"scores = model(x).{moved}\nvalue = loss(scores, labels)",
    )


def classes_are_last(subject: Subject) -> str:
    """Why the last dimension of outputs ``[N, …, C]`` must be the classes; nothing where dimension 1 can be."""
    shape = tuple(subject.outputs.shape)
    if len(shape) < 3:
        return ""
    declared, labels = subject.classes, subject.labels
    if shape[1] == 1 != shape[-1] and _is_dense(subject, shape):
        return ""
    if declared is not None and shape[1] != shape[-1]:
        if shape[1] != declared and shape[-1] == declared:
            return f"{declared} classes are declared, which is the size of the last dimension"
        if shape[1] == declared:
            return ""
    if labels is not None and not labels.is_floating_point() and shape[1] != shape[-1] and shape[1] != 1:
        if tuple(labels.shape[1:]) == shape[1:-1] != shape[2:]:
            return f"the labels have shape {list(labels.shape)}, which leaves the last dimension for them"
        if tuple(labels.shape[1:]) == shape[2:]:
            return ""
    if shape[1] == 1 != shape[-1]:
        return f"the last dimension stays at {shape[-1]} whatever the inputs: the classes are there"
    return _grows(subject, shape)


def _is_dense(subject: Subject, shape: tuple[int, ...]) -> bool:
    """Whether outputs ``[N, 1, …]`` are one number for each place of the inputs: their last dimension is a length."""
    assert subject.shape is not None
    resized = list(_resized(subject, shape))
    if resized:
        return any(found[-1] != shape[-1] for _, found in resized)
    return len(subject.shape) > 1 and subject.classes != shape[-1] and subject.shape[-1] == shape[-1]


def _grows(subject: Subject, shape: tuple[int, ...]) -> str:
    for other, found in _resized(subject, shape):
        if found[1] != shape[1] and found[-1] == shape[-1]:
            return (
                f"inputs of shape {list(other)} make its size {found[1]}, while the last dimension "
                f"stays at {shape[-1]}: the classes are there"
            )
    return ""


def _resized(subject: Subject, shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Shapes of other inputs that the model takes, and those of their outputs."""
    assert subject.shape is not None
    for axis, size in enumerate(subject.shape):
        for other_size in (size * 2, size // 2, size + 1, size - 1):
            if other_size < 1 or other_size == size:
                continue
            other = (*subject.shape[:axis], other_size, *subject.shape[axis + 1 :])
            found = subject.shaped(BATCH, other)
            if found is not None and found.ndim == len(shape):
                yield other, tuple(found.shape)


RULE = Rule(
    "class-dimension",
    "error",
    "the classes are not in dimension 1, where the loss looks for them",
    _probe,
    needs=("inputs", "loss"),
)
