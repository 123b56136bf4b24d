"""Parameters that are registered and take no part in the forward."""

from collections.abc import Iterator

from modelspace.doctor.finding import Observation
from modelspace.doctor.reach import unreached
from modelspace.doctor.rule import Rule
from modelspace.doctor.subject import Subject

# How many names a sentence holds.
_NAMED = 6


def _probe(subject: Subject) -> Iterator[Observation]:
    found = unreached(subject)
    if found.unused:
        owner = _owners(found.unused)[0]
        yield Observation(
            ", ".join(_owners(found.unused)),
            f"{_named(found.unused)} that the forward never uses, or whose result it drops, in either mode and at "
            "several seeds; no gradient reaches them",
            f"# either use it in the forward\nx = self.{owner}(x)\n# or leave it out of __init__",
        )
    if found.vanishing:
        yield Observation(
            ", ".join(_owners(found.vanishing)),
            f"{_named(found.vanishing)} that move no output: the forward returns a derivative, in which an added "
            "constant disappears",
            "nn.Linear(width, 1, bias=False)     # where no energy is returned beside its derivative",
            "info",
        )


def _owners(parameters: dict[str, int]) -> list[str]:
    return list(dict.fromkeys(name.rpartition(".")[0] or name for name in list(parameters)[:_NAMED]))


def _named(parameters: dict[str, int]) -> str:
    more = f" and {len(parameters) - _NAMED} more" if len(parameters) > _NAMED else ""
    return f"{', '.join(list(parameters)[:_NAMED])}{more}: {sum(parameters.values()):,} numbers"


RULE = Rule(
    "unused-parameters",
    "warning",
    "parameters are registered that the forward never uses",
    _probe,
    needs=("inputs",),
)
