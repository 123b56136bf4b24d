"""float64 that leaks into a float32 network."""

from collections import Counter
from collections.abc import Iterator

import torch

from modelspace.doctor.finding import Observation
from modelspace.doctor.rule import Rule
from modelspace.doctor.subject import Subject


def _probe(subject: Subject) -> Iterator[Observation]:
    kinds = Counter(p.dtype for p in subject.skeleton.parameters() if p.dtype.is_floating_point)
    double = torch.float64
    if not kinds or set(kinds) == {double}:
        return
    if double in kinds and len(kinds) > 1:
        names = [n for n, p in subject.skeleton.named_parameters() if p.dtype == double]
        yield Observation(
            names[0],
            f"{len(names)} of {sum(kinds.values())} parameters are float64, the others are not",
            "model = model.float()",
        )
        return
    trace = subject.trace
    for operation in trace.operations:
        promoted = [x for x in operation.outputs if x.dtype == double and x.ndim]
        narrow = [x for x in operation.tensors if x.is_floating_point() and x.dtype != double and x.ndim]
        wide = [x for x in operation.tensors if x.dtype == double]
        if wide and narrow and (promoted or (trace.failure is not None and not operation.outputs)):
            fails = "" if trace.failure is None else f"; the forward fails of it: {trace.failure}"
            yield _observed(
                operation.where,
                f"{operation.name} takes {_kind(narrow[0])} and {_kind(wide[0])}, and goes on in float64{fails}",
            )
            return
    if trace.failure is None and trace.outputs.dtype == double:
        first = next((o for o in trace.operations if any(x.dtype == double for x in o.outputs)), None)
        yield _observed(
            first.where if first is not None else subject.end,
            "the outputs are float64, and the parameters are not",
        )
    elif trace.failure is not None and "double" in str(trace.cause).lower():
        first = next((o for o in trace.operations if any(x.dtype == double for x in o.outputs)), None)
        if first is not None:
            yield _observed(
                first.where, f"{first.name} makes float64, and the forward fails of it: {trace.failure}"
            )


def _kind(x: torch.Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}"


def _observed(where: str, evidence: str) -> Observation:
    return Observation(
        where,
        f"{evidence}: at half the speed or less, and no GPU is made for it",
        "scale = torch.tensor(scale, dtype=torch.float32)     # NumPy's numbers are float64\n"
        "x = torch.as_tensor(array).to(x.dtype)",
    )


RULE = Rule(
    "double-precision",
    "warning",
    "float64 leaks into a float32 network",
    _probe,
    needs=("inputs",),
    survives_failure=True,
)
