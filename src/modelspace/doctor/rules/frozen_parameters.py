"""Parameters that are frozen where something must be trained."""

from collections.abc import Iterator

from modelspace.doctor.finding import Observation
from modelspace.doctor.location import place
from modelspace.doctor.rule import Rule
from modelspace.doctor.subject import Subject


def _probe(subject: Subject) -> Iterator[Observation]:
    parameters = dict(subject.skeleton.named_parameters())
    trainable = sum(p.numel() for p in parameters.values() if p.requires_grad)
    frozen = sum(p.numel() for p in parameters.values() if not p.requires_grad)
    if not parameters or not frozen:
        return
    if not trainable:
        yield Observation(
            subject.title,
            f"all {len(parameters)} parameters, {frozen:,} numbers, have requires_grad = False: nothing is trained",
            "for parameter in model.fc.parameters():\n    parameter.requires_grad = True",
        )
        return
    if subject.shape is None or subject.trace.failure is not None:
        return
    calls = [call for call in subject.trace.calls if any(True for _ in call.layer.parameters(recurse=False))]
    if not calls:
        return
    own = list(calls[-1].layer.parameters(recurse=False))
    # Adapters train little beside a frozen base, last layer included: that is meant. A frozen last layer above
    # a network that is mostly trained is not.
    if all(not p.requires_grad for p in own) and trainable > frozen:
        yield Observation(
            place(calls[-1].path, kind=type(calls[-1].layer).__name__),
            f"the last layer has requires_grad = False and the {trainable:,} numbers before it are trained: a head "
            "that is drawn at random stays so",
            f"for parameter in model.{calls[-1].path}.parameters():\n    parameter.requires_grad = True",
            "warning",
        )


RULE = Rule(
    "frozen-parameters",
    "error",
    "what must be trained is frozen: everything, or the last layer",
    _probe,
    needs=(),
)
