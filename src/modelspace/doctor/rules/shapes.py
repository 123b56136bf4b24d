"""Shapes of outputs that the loss, the classes or the labels don't go with."""

from collections.abc import Iterator

from modelspace.doctor.rule import Inapplicable, Seen, rule
from modelspace.doctor.subject import BATCH, Subject


@rule("error", needs=("inputs", "loss"))
def output_count(subject: Subject) -> Seen:
    """The number of outputs is not that of the classes or labels."""
    shape, classes, labels = tuple(subject.outputs.shape), subject.classes, subject.labels
    if subject.by_class:
        if len(shape) < 2 or shape[1] == 1 or _classes_are_last(subject):
            return  # single-output and class-dimension say more
        outputs = shape[1]
        found = _classes_wanted(subject, outputs)
    elif labels is not None:
        wanted, outputs = tuple(labels.shape[1:]), subject.outputs[0].numel()
        if shape[1:] == wanted or subject.loss.labels in ("distribution", None):
            return
        if [size for size in shape[1:] if size != 1] == [size for size in wanted if size != 1]:
            return  # a column: column-broadcast says more
        needed = labels[0].numel()
        found = (needed, f"the labels have {needed} numbers a sample") if outputs != needed else None
    elif classes is not None and subject.loss.labels in ("unit", "multi-hot", "sign"):
        outputs = subject.outputs[0].numel()
        fits = outputs == classes or (outputs == 1 and classes <= 2)
        found = None if fits else (classes, f"{classes} classes are declared")
    else:
        raise Inapplicable("needs classes= or labels")
    if found is not None:
        needed, why = found
        yield (
            subject.end,
            f"the model has {outputs} output{'s' if outputs != 1 else ''} a sample and {why}",
            f"self.fc = nn.Linear(self.fc.in_features, {needed})",
        )


def _classes_wanted(subject: Subject, outputs: int) -> tuple[int, str] | None:
    """Return how many classes there are, and how that is known; None where that many outputs are right."""
    labels = subject.labels
    integers = labels is not None and not labels.is_floating_point() and labels.numel()
    needed = int(labels.max()) + 1 if labels is not None and integers else 0
    if subject.classes is not None and outputs != subject.classes:
        return subject.classes, f"{subject.classes} classes are declared"
    # Labels from 1 on are another mistake: label-coding says more.
    if outputs < needed and not (labels is not None and int(labels.min()) == 1 and needed == outputs + 1):
        return needed, f"the labels go up to {needed - 1}"
    if subject.classes is None and not integers:
        raise Inapplicable("needs classes= or labels")
    return None


@rule("error", needs=("inputs", "loss"))
def single_output(subject: Subject) -> Seen:
    """One output with a loss over classes: nothing can be learnt."""
    if not subject.by_class:
        raise Inapplicable(f"{subject.loss.name} is not over classes")
    shape = list(subject.outputs.shape)
    last = _classes_are_last(subject)
    if len(shape) == 1:
        what = "the loss takes the whole batch for the classes of one sample"
    elif last and shape[-1] == 1:
        what = f"one number for each of {shape[1]} places, which the loss takes for {shape[1]} classes"
    elif len(shape) > 1 and shape[1] == 1 and not last:
        what = "a softmax over one class is always 1, so the loss is 0 and its gradient too"
    else:
        return  # of a single number for the whole batch batch-reshape says more, of classes elsewhere class-dimension
    yield (
        subject.end,
        f"outputs have shape {shape}: {what}",
        "# either one output for each class\nself.fc = nn.Linear(self.fc.in_features, 2)\n"
        "# or, with one output, a loss of two classes on labels 0.0 and 1.0\n"
        "loss = nn.BCEWithLogitsLoss()\nvalue = loss(model(x).squeeze(1), labels.float())",
    )


@rule("error", needs=("inputs", "loss"))
def class_dimension(subject: Subject) -> Seen:
    """The classes are not in dimension 1, where the loss looks for them."""
    if not subject.by_class:
        raise Inapplicable(f"{subject.loss.name} is not over classes")
    shape = list(subject.outputs.shape)
    if len(shape) < 3 or shape[-1] == 1:
        return  # single-output says more
    reason = _classes_are_last(subject)
    if not reason:
        return
    axes = ", ".join(str(axis) for axis in (0, len(shape) - 1, *range(1, len(shape) - 1)))
    moved = f"permute({axes})     # [N, C, …]" if set(shape[1:-1]) != {1} else "flatten(1)     # [N, C]"
    yield (
        subject.end,
        f"outputs have shape {shape}: the loss takes dimension 1, of size {shape[1]}, for the classes, "
        f"and {reason}",
        f"scores = model(x).{moved}\nvalue = loss(scores, labels)",
    )


def _classes_are_last(subject: Subject) -> str:
    """Say why the last dimension of outputs ``[N, …, C]`` must be the classes; nothing where dimension 1 can be."""
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
    for other, found in _resized(subject, shape):
        if found[1] != shape[1] and found[-1] == shape[-1]:
            return (
                f"inputs of shape {list(other)} make its size {found[1]}, while the last dimension "
                f"stays at {shape[-1]}: the classes are there"
            )
    return ""


def _is_dense(subject: Subject, shape: tuple[int, ...]) -> bool:
    """Tell whether outputs ``[N, 1, …]`` are a number for each place of the inputs: their last size is a length."""
    assert subject.shape is not None
    resized = list(_resized(subject, shape))
    if resized:
        return any(found[-1] != shape[-1] for _, found in resized)
    return len(subject.shape) > 1 and subject.classes != shape[-1] and subject.shape[-1] == shape[-1]


def _resized(subject: Subject, shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yield shapes of other inputs that the model takes, and those of their outputs."""
    assert subject.shape is not None
    for axis, size in enumerate(subject.shape):
        for other_size in (size * 2, size // 2, size + 1, size - 1):
            if other_size < 1 or other_size == size:
                continue
            other = (*subject.shape[:axis], other_size, *subject.shape[axis + 1 :])
            found = subject.shaped(BATCH, other)
            if found is not None and found.ndim == len(shape):
                yield other, tuple(found.shape)


@rule("error", needs=("inputs", "loss", "data"))
def column_broadcast(subject: Subject) -> Seen:
    """Outputs (N, 1) and labels (N) broadcast to N × N pairs."""
    if subject.by_class:
        raise Inapplicable("a loss over classes does not broadcast")
    assert subject.labels is not None
    outputs, labels = list(subject.outputs.shape), list(subject.labels.shape)
    if outputs[1:] == labels[1:] or len(outputs) == len(labels):
        return
    longer, shorter = sorted((outputs, labels), key=len, reverse=True)
    if longer[1:-1] != shorter[1:] or longer[-1] != 1:
        return
    count = outputs[0]
    names = [str(("N", *shape[1:])).replace("'", "") for shape in (outputs, labels)]
    yield (
        subject.end,
        f"outputs have shape {names[0]} and labels {names[1]}: they broadcast to {count}×{count} pairs for a batch "
        f"of {count}, so every output is drawn to the mean of all labels",
        "value = loss(model(x).squeeze(-1), labels)"
        if longer is outputs
        else "value = loss(model(x), labels.squeeze(-1))",
    )
