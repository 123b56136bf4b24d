"""Parameters that are registered and take no part in the forward."""

from collections.abc import Iterator

from modelspace.doctor.finding import Observation
from modelspace.doctor.reach import unreached
from modelspace.doctor.rule import Rule
from modelspace.doctor.subject import Subject

# How many names a sentence holds.
_NAMED = 6


def _probe(subject: Subject) -> Iterator[Observation]:
    unused = unreached(subject).unused
    if not unused:
        return
    names = list(unused)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    owner = names[0].rpartition(".")[0] or names[0]
    yield Observation(
        ", ".join(dict.fromkeys(name.rpartition(".")[0] or name for name in names[:_NAMED])),
        f"{', '.join(names[:_NAMED])}{more}: {sum(unused.values()):,} numbers that the forward never uses, or "
        "whose result it drops, in either mode and at several seeds; no gradient reaches them",
        f"# either use it in the forward\nx = self.{owner}(x)\n# or leave it out of __init__",
    )


RULE = Rule(
    "unused-parameters",
    "warning",
    "parameters are registered that the forward never uses",
    _probe,
    needs=("inputs",),
)
