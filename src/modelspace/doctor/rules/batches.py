"""Batches whose samples don't stay apart: reshapes over the batch, outputs that mix, norms of a single sample."""

import re
import time
from collections.abc import Iterator
from fractions import Fraction
from math import prod

import torch
from torch import Tensor, nn

from modelspace.doctor.rule import Inapplicable, Seen, rule
from modelspace.doctor.samples import seed_all
from modelspace.doctor.subject import BATCH, Subject
from modelspace.doctor.trace import Call, Operation, Trace, place, record

# Sizes tried: from one to five times the declared one, which holds 32 for 7, but no more than these many.
_REACH, _MOST_SIZES = 5, 40
_SECONDS = 2.0
# How many sizes a sentence names.
_NAMED = 4
_RESHAPING = ("view", "reshape", "flatten", "squeeze", "transpose", "permute")


@rule("error", needs=("inputs",))
def batch_reshape(subject: Subject) -> Seen:
    """A reshape doesn't keep the batch: rows of the outputs are not the samples."""
    fix = "x = x.flatten(1)     # keeps the batch, and fails on inputs of another size"
    wrong = _at_the_declared_size(subject)
    if wrong:
        yield _place_of_reshape(subject), wrong, fix
        return
    # Those with a free first size and fixed others, as ``view(-1, 225)``.
    reshapes = [
        operation
        for operation in subject.trace.operations
        if operation.name in ("view", "reshape") and len(sizes := _sizes(operation)) > 1 and sizes[0] == -1
    ]
    elsewhere = _at_other_sizes(subject, reshapes) if reshapes else ""
    if elsewhere:
        call = f"{reshapes[0].name}({', '.join(map(str, _sizes(reshapes[0])))})"
        yield (
            reshapes[0].where,
            f"{call} keeps the batch only for samples of shape {_text(subject.shape or ())}: {elsewhere}, "
            "without an error",
            fix,
            "warning",
        )


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
    """Yield the last dimensions that go together (height and width) at other sizes."""
    if not shape:
        return
    size, alike = shape[-1], 1
    while alike < min(len(shape) - 1, 3) and shape[-1 - alike] == size:
        alike += 1
    sizes = [s for s in range(1, _REACH * size + 1) if s != size]
    step = max(1, len(sizes) // _MOST_SIZES)
    for other in sizes[::step]:
        yield (*shape[: len(shape) - alike], *[other] * alike)


def _text(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape[-2:] if len(shape) > 2 else shape))


def _place_of_reshape(subject: Subject) -> str:
    """Return the first operation at which the first dimension stops being the batch."""
    for operation in subject.trace.operations:
        before = [x.shape[0] for x in operation.tensors if x.ndim]
        after = [x.shape[0] for x in operation.outputs if x.ndim]
        if BATCH in before and after and BATCH not in after and operation.name in _RESHAPING:
            return operation.where
    return subject.end


# A batch of the same size takes the same kernels, so what a sample gets differs by rounding at most unless it depends
# on its neighbours. In float64 that is 1e-16 of it, and a dependence that many layers have dampened still shows.
_TOLERANCE, _IN_FLOAT64 = 1e-5, 1e-10


@rule("error")
def batch_mixing(subject: Subject) -> Seen:
    """The outputs of one sample depend on the others of its batch, in evaluation mode."""
    first, second = _forwards(subject)
    before, after = first.outputs.detach(), second.outputs.detach()
    if not before.ndim or before.shape[0] != BATCH:
        raise Inapplicable("the outputs have not one row a sample; see batch-reshape")
    if not torch.equal(
        before, _recorded(subject, subject.inputs(), double=before.dtype == torch.float64).outputs
    ):
        raise Inapplicable("two evaluations differ; see nondeterminism")
    if after.shape != before.shape:
        raise Inapplicable("the shape of the outputs depends on the values of the inputs")
    moved = _moved(before, after)
    if not bool((moved > 0).any()):
        return
    mixing = _mixing(first, second)
    if mixing is not None and _after_one_that_takes_the_batch_for_time(mixing, first, subject):
        return  # batch-first says more
    yield (
        mixing.where if mixing is not None else subject.end,
        f"in evaluation mode, another first sample moves the outputs of {int((moved > 0).sum())} of the {BATCH - 1} "
        f"others, by up to {float(moved.max()):.3g} (outputs are of size {float(before.abs().max()):.3g})",
        "# a sample's outputs may depend on that sample alone: name the dimensions that are reduced\n"
        "weights = scores.softmax(dim=-1)     # not dim=0\n"
        "nn.BatchNorm1d(n, track_running_stats=True)",
    )


def _forwards(subject: Subject) -> tuple[Trace, Trace]:
    """Record two forwards, the second with another first sample."""
    inputs = subject.inputs()
    changed = inputs.clone()
    changed[0] = subject.inputs(BATCH + 1, scale=3.0, seed=subject.seed + 1)[-1]
    try:
        first, second = (_recorded(subject, x, double=True) for x in (inputs, changed))
    except Exception:  # a forward with types of its own
        first, second = (_recorded(subject, x, double=False) for x in (inputs, changed))
    return first, second


def _recorded(subject: Subject, inputs: Tensor, *, double: bool) -> Trace:
    module = subject.fresh()
    if double:
        module, inputs = module.double(), inputs.double() if inputs.is_floating_point() else inputs
    seed_all(subject.seed)
    with torch.no_grad():
        trace = record(module, inputs)
    _ = trace.outputs  # raises where the forward failed
    return trace


def _moved(before: Tensor, after: Tensor) -> Tensor:
    """Return how far the outputs of each other sample moved; 0 where that can be rounding."""
    size = float(before.double().abs().max()) or 1.0
    moved = (after.double() - before.double())[1:].abs().reshape(BATCH - 1, -1).amax(1)
    rounding = size * (_IN_FLOAT64 if before.dtype == torch.float64 else _TOLERANCE)
    return torch.where(moved > rounding, moved, 0.0)


def _mixing(first: Trace, second: Trace) -> Operation | None:
    """Return the first operation whose outputs mix, if the two forwards took the same way."""
    if len(first.operations) != len(second.operations):
        return None
    for one, other in zip(first.operations, second.operations, strict=True):
        for a, b in zip(one.outputs, other.outputs, strict=False):
            if a.shape != b.shape or not a.is_floating_point() or not a.numel() or a.shape[:1] != (BATCH,):
                continue
            if bool((_moved(a, b) > 0).any()):
                return one
    return None


# Their dimensions of batch and time are told apart by batch_first alone, whatever the sizes.
_SEQUENCES = (nn.RNNBase, nn.MultiheadAttention)
_AROUND = (nn.Transformer, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


@rule("error")
def batch_first(subject: Subject) -> Seen:
    """A recurrent or attention layer takes the batch for time."""
    suspects = _taking_the_batch_for_time(subject.trace, subject)
    first, second = _forwards(subject) if suspects else (subject.trace, subject.trace)
    seen: set[str] = set()
    for suspect, dimension in suspects:
        names = suspect.path.split(".")
        heads = (".".join(names[:i]) for i in range(len(names)))
        path = next((p for p in heads if isinstance(first.module.get_submodule(p), _AROUND)), suspect.path)
        index = subject.trace.calls.index(suspect)
        pair = [call for trace in (first, second) for call in trace.calls[index : index + 1] if call.outputs]
        outputs = [call.outputs[0].movedim(dimension, 0) for call in pair if call.path == suspect.path]
        kind = re.sub(r"\d+", "*", path)  # of the equal layers of a stack one is enough
        if kind in seen or len(outputs) < 2 or any(x.shape[0] != BATCH for x in outputs):
            continue
        moved = _moved(*outputs)
        if not bool((moved > 0).any()):
            continue
        seen.add(kind)
        layer, shape = first.module.get_submodule(path), list(suspect.inputs[0].shape)
        how = f"batch_first={dimension == 1} has time in dimension {dimension} and the batch in the other"
        fix = (
            f"nn.{type(layer).__name__}(…, batch_first={dimension == 0})     # or x.transpose(0, 1) around it"
        )
        if len(shape) == 2:
            how = "two dimensions are one sequence without a batch"
            fix = f"{path or 'layer'}(x.unsqueeze(1))     # [batch, 1, features], with batch_first=True"
        yield (
            place(path, layer),
            f"it is given {shape}, whose dimension {dimension} is the batch, and {how}: another first sample moves "
            f"what it gives for {int((moved > 0).sum())} of the {BATCH - 1} others, by up to "
            f"{float(moved.max()):.3g} (it is of size {float(outputs[0].abs().max()):.3g})",
            fix,
        )


def _after_one_that_takes_the_batch_for_time(mixing: Operation, trace: Trace, subject: Subject) -> bool:
    layers = [call.layer for call, _ in _taking_the_batch_for_time(trace, subject)]
    before = trace.operations[: trace.operations.index(mixing) + 1]
    return any(operation.layer is layer for operation in before for layer in layers)


def _taking_the_batch_for_time(trace: Trace, subject: Subject) -> list[tuple[Call, int]]:
    """List calls of sequence layers whose dimension of time goes with the size of the batch, and that dimension."""
    calls, others = list(_of_sequences(trace)), list[Call]()
    if calls:
        others = list(_of_sequences(subject.traced(training=False, batch=BATCH + 2)))
    found = []
    for call, other in zip(calls, others, strict=False):
        a, b = call.inputs[0].shape, other.inputs[0].shape
        if call.path != other.path or len(a) != len(b):
            break
        follows = [m != n and m * (BATCH + 2) == n * BATCH for m, n in zip(a, b, strict=True)]
        time = int(bool(call.layer.batch_first))
        if len(a) == 3 and follows[time] and not follows[1 - time]:
            found.append((call, time))
        elif len(a) == 2 and follows[0]:
            found.append((call, 0))
    return found


def _of_sequences(trace: Trace) -> Iterator[Call]:
    """Yield calls of sequence layers; a packed sequence says itself what is what."""
    for call in trace.calls:
        if isinstance(call.layer, _SEQUENCES) and call.inputs and not call.packed:
            yield call


@rule("warning")
def batch_norm_single(subject: Subject) -> Seen:
    """Training on a batch of one sample fails, or normalises a single value."""
    trace = subject.traced(training=True, batch=1)
    for call in trace.calls:
        if (
            not isinstance(call.layer, nn.modules.batchnorm._BatchNorm)
            or not call.training
            or not call.inputs
        ):
            continue
        x = call.inputs[0]
        if x.ndim > 1 and x.numel() == x.shape[1]:
            fails = f": it raises ({trace.failure})" if trace.failure is not None else ""
            yield (
                call.where,
                f"in training, a batch of one sample leaves it {list(x.shape)}, one value a channel, which has no "
                f"variance{fails}",
                "loader = DataLoader(data, batch_size=32, drop_last=True)     # no last batch of one sample\n"
                "# or, for batches of one\nself.norm = nn.GroupNorm(1, channels)",
            )
            return
