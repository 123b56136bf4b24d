"""A reshape that turns a batch into another number of rows."""

import time
from collections.abc import Iterator
from fractions import Fraction
from math import prod

from modelspace.doctor.finding import Observation
from modelspace.doctor.rule import Rule
from modelspace.doctor.subject import BATCH, Subject
from modelspace.doctor.trace import Operation

# Sizes tried: from one to five times the declared one, which holds 32 for 7, but no more than these many.
_REACH, _MOST_SIZES = 5, 40
_SECONDS = 2.0
# How many sizes a sentence names.
_NAMED = 4


def _probe(subject: Subject) -> Iterator[Observation]:
    wrong = _at_the_declared_size(subject)
    if wrong:
        yield Observation(_place(subject), wrong, _FIX)
        return
    reshapes = _reshapes(subject)
    if not reshapes:
        return
    elsewhere = _at_other_sizes(subject, reshapes)
    if elsewhere:
        call = f"{reshapes[0].name}{_sizes(reshapes[0])}".replace("[", "(").replace("]", ")")
        yield Observation(
            reshapes[0].where,
            f"{call} keeps the batch only for samples of shape {_text(subject.shape or ())}: {elsewhere}, "
            "without an error",
            _FIX,
            "warning",
        )


_FIX = "x = x.flatten(1)     # keeps the batch, and fails on inputs of another size"


def _at_the_declared_size(subject: Subject) -> str:
    found = []
    for batch in (1, 2, 3, BATCH):
        outputs = subject.shaped(batch)
        if outputs is None:
            continue
        rows = outputs.shape[0] if outputs.ndim else 0
        if rows != batch:
            found.append((batch, rows, list(outputs.shape)))
    if not found:
        return ""
    batch, rows, shape = found[-1]
    labels = subject.labels
    if labels is not None and labels[0].numel() > 1 and rows == batch * labels[0].numel():
        return ""  # every label has its row
    only = " (other batch sizes keep their rows)" if len(found) == 1 else ""
    if rows:
        return f"a batch of {batch} comes out with {rows} rows, shape {shape}{only}"
    return f"a batch of {batch} comes out as a single number{only}"


def _reshapes(subject: Subject) -> list[Operation]:
    """Reshapes with a free first size and fixed others, as ``view(-1, 225)``."""
    found = []
    for operation in subject.trace.operations:
        sizes = _sizes(operation)
        if operation.name in ("view", "reshape") and len(sizes) > 1 and sizes[0] == -1:
            found.append(operation)
    return found


def _sizes(operation: Operation) -> list[int]:
    given = operation.arguments[1:] or tuple(operation.keywords.values())
    flat = given[0] if len(given) == 1 and isinstance(given[0], tuple | list) else given
    return [int(size) for size in flat if isinstance(size, int)]


def _at_other_sizes(subject: Subject, reshapes: list[Operation]) -> str:
    # The batch that any fixed size divides, so that no size fails for want of divisibility alone.
    batch = prod({prod(_sizes(operation)[1:]) for operation in reshapes})
    if batch > 100_000:
        batch = prod(_sizes(reshapes[0])[1:])
    whole: dict[str, int] = {}
    mixed: dict[str, Fraction] = {}
    end = time.thread_time() + _SECONDS
    for shape in _other_shapes(subject.shape or ()):
        if time.thread_time() > end:
            break
        outputs = subject.shaped(batch, shape)
        if outputs is None or not outputs.ndim or outputs.shape[0] == batch:
            continue
        ratio = Fraction(outputs.shape[0], batch)
        if ratio.denominator == 1:
            whole[_text(shape)] = int(ratio)
        else:
            mixed[_text(shape)] = ratio
    parts = [f"{shape} gives {rows}B rows for a batch of B" for shape, rows in list(whole.items())[:_NAMED]]
    parts += [
        f"{shape} mixes samples (a batch of {ratio.denominator} becomes {ratio.numerator} "
        f"row{'s' if ratio.numerator > 1 else ''})"
        for shape, ratio in sorted(mixed.items(), key=lambda item: item[1].denominator)[:_NAMED]
    ]
    return ", ".join(parts)


def _other_shapes(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """The last dimensions that go together (height and width), at other sizes."""
    if not shape:
        return
    size = shape[-1]
    alike = 1
    while (
        alike < min(len(shape), 3) and len(shape) > 1 and shape[-1 - alike] == size and alike < len(shape) - 1
    ):
        alike += 1
    sizes = [s for s in range(1, _REACH * size + 1) if s != size]
    step = max(1, len(sizes) // _MOST_SIZES)
    for other in sizes[::step]:
        yield (*shape[: len(shape) - alike], *[other] * alike)


def _text(shape: tuple[int, ...]) -> str:
    plane = shape[-2:] if len(shape) > 2 else shape
    return "×".join(map(str, plane))


def _place(subject: Subject) -> str:
    """The last operation at which the first dimension stopped being the batch."""
    for operation in subject.trace.operations:
        before = [x.shape[0] for x in operation.tensors if x.ndim]
        after = [x.shape[0] for x in operation.outputs if x.ndim]
        if BATCH in before and after and BATCH not in after and operation.name in _RESHAPING:
            return operation.where
    return subject.end


_RESHAPING = ("view", "reshape", "flatten", "squeeze", "transpose", "permute")

RULE = Rule(
    "batch-reshape",
    "error",
    "a reshape doesn't keep the batch: rows of the outputs are not the samples",
    _probe,
    needs=("inputs",),
)
