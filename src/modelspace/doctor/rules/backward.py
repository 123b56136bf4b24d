"""Backwards that fail, and in-place operations: what overwrites what the backward, or a hook, has kept."""

import re

from modelspace.doctor.rule import Seen, rule
from modelspace.doctor.subject import Subject
from modelspace.doctor.trace import Operation, Trace, failure_of_backward, line_of, place
from modelspace.errors import first_line


@rule("error", needs=("inputs",), survives_failure=True)
def inplace_backward(subject: Subject) -> Seen:
    """An in-place operation overwrites what the backward needs."""
    fix = (
        "x = x + y     # not x += y\nx = torch.sigmoid(x)     # not x.sigmoid_(); nn.ReLU() not inplace=True"
    )
    for trace in (subject.training_trace, subject.trace):
        error = trace.cause if trace.failure is not None else trace.backward_failure
        if error is None or not _is_of_inplace(error):
            continue
        line = str(error).strip().splitlines()[0].split("; ")[0].split(". Hint")[0]
        if trace.failure is not None:
            writer = trace.operations[-1] if trace.operations else None
            evidence = f"the forward fails: {line}"
        else:
            writer = _writer(trace, str(error))
            did = f"{writer.name} writes into it after it was used; " if writer is not None else ""
            evidence = f"{did}the backward fails: {line}"
        yield writer.where if writer is not None else subject.title, evidence, fix
        return


def _is_of_inplace(error: BaseException) -> bool:
    return "inplace" in str(error) or "in-place" in str(error)


def _writer(trace: Trace, message: str) -> Operation | None:
    """Find the last in-place operation on a tensor of the shape that the complaint names."""
    shape = re.search(r"\[[\w.]+ \[([\d, ]*)\]\]", message)
    wanted = [int(size) for size in shape[1].split(",") if size.strip()] if shape else None
    writers = [o for o in trace.operations if o.written]
    fitting = [o for o in writers if wanted is None or any(list(x.shape) == wanted for x in o.written)]
    return (fitting or writers or [None])[-1]


@rule("info", needs=("inputs",))
def inplace_hook(subject: Subject) -> Seen:
    """An in-place operation overwrites a module's output after the module returned it."""
    trace = subject.trace
    seen: set[str] = set()
    for call in trace.calls:
        for output, version in zip(call.outputs, call.versions, strict=True):
            if output.is_inference() or output._version == version or call.path in seen:
                continue
            writers = [
                o
                for o in trace.operations
                if any(x is output for x in o.written) and o.layer is not call.layer
            ]
            if not writers:
                continue
            seen.add(call.path)
            yield (
                f"{call.where}, then {writers[0].where}",
                f"{writers[0].name} overwrites the output of {call.path or 'the model'} after it returned: what a "
                "forward hook kept there is no longer what the module gave",
                "self.relu = nn.ReLU()     # not inplace=True; or keep output.clone() in the hook",
            )


@rule("error")
def backward_fails(subject: Subject) -> Seen:
    """The backward fails: nothing can be trained."""
    trace = subject.trace if subject.training_trace.failure is not None else subject.training_trace
    error = trace.backward_failure
    what, where = "the backward of the outputs", subject.title
    if error is None and subject.given_loss is not None:
        what, where = "the backward of the loss", "the loss"
        error = _failure_of_loss(subject)
    if error is None or _is_of_inplace(error):
        return  # inplace-backward says more
    yield (
        place(where, line=line_of(error)),
        f"{what} fails: {type(error).__name__}: {first_line(error)}",
        "@staticmethod\ndef backward(ctx, gradient):     # one gradient for each input of forward, of its shape\n"
        "    (x,) = ctx.saved_tensors\n    return gradient * slope(x)\n"
        "torch.autograd.gradcheck(Function.apply, x.double().requires_grad_())     # tells whether it is right",
    )


def _failure_of_loss(subject: Subject) -> Exception | None:
    """Return what the backward of the loss raises; None where the loss itself can't be computed."""
    outputs = subject.outputs.clone().requires_grad_(subject.outputs.is_floating_point())
    try:
        value = subject.loss(outputs, subject.labels_for(outputs))
    except Exception:  # other rules look at that
        return None
    return failure_of_backward(value)
