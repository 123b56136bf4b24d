"""An in-place operation that overwrites what a module has returned."""

from collections.abc import Iterator

from modelspace.doctor.finding import Observation
from modelspace.doctor.location import place
from modelspace.doctor.rule import Rule
from modelspace.doctor.subject import Subject


def _probe(subject: Subject) -> Iterator[Observation]:
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
            by = writers[0]
            yield Observation(
                f"{place(call.path, kind=type(call.layer).__name__)}, then {by.where}",
                f"{by.name} overwrites the output of {call.path or 'the model'} after it returned: what a forward "
                "hook kept there is no longer what the module gave",
                "self.relu = nn.ReLU()     # not inplace=True; or keep output.clone() in the hook",
            )


RULE = Rule(
    "inplace-hook",
    "info",
    "an in-place operation overwrites a module's output after the module returned it",
    _probe,
    needs=("inputs",),
)
