"""A rule: a name, a severity, a statement and a probe; and the finding that it makes of what the probe saw."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from modelspace.doctor.subject import Subject

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
# What a probe yields: a finding's where, evidence and fix, and its severity where that is not the rule's own.
Seen = Iterator[tuple[str, str, str] | tuple[str, str, str, Severity]]
Probe = Callable[["Subject"], Seen]

# What a rule may need, and the reason given where it is not there.
NEEDS = {
    "inputs": "needs one sample's shape: inputs=(3, 7, 7)",
    "loss": "needs loss=",
    "data": "needs data= or labels=",
    "formula": "needs formula=",
    "optimizer": "needs optimizer=",
}


class Inapplicable(Exception):
    """End a probe that can't judge this subject; the reason is listed among what was skipped."""


@dataclass(frozen=True)
class Finding:
    """One mistake.

    Attributes:
        rule: The rule's name.
        severity: ``"error"``: training can't do what is meant. ``"warning"``: it likely costs quality or time.
            ``"info"``: worth knowing.
        where: Module path and line of the user's source, as far as they are known.
        evidence: One sentence with the numbers that were measured.
        fix: Code to paste.
        summary: The rule's statement.
        file: The source file that it is in, as seen from the working folder; empty where that is not known.
        line: The line there: the one of ``where``, else the one that builds the layer or defines the model; 0 where
            that is not known.
        fingerprint: What makes it this finding, whatever lines it moves to: rule, severity, model and ``where``.
    """

    rule: str
    severity: Severity
    where: str
    evidence: str
    fix: str
    summary: str
    file: str = ""
    line: int = 0
    fingerprint: str = ""


@dataclass(frozen=True)
class Rule:
    """One mistake that the doctor looks for.

    Attributes:
        name: As it is typed in ``only`` and ``ignore``.
        severity: Of its findings, unless one says otherwise.
        statement: One line: what is wrong where it fires.
        probe: Yields what a subject shows of this mistake; nothing where it has not got it.
        needs: Of `NEEDS`; and ``"values"`` where shapes alone don't do, so that the model must be small enough
            to run.
        survives_failure: Whether it can tell something although the forward fails.
    """

    name: str
    severity: Severity
    statement: str
    probe: Probe
    needs: tuple[str, ...] = ("inputs", "values")
    survives_failure: bool = False

    def findings(self, subject: "Subject") -> list[Finding]:
        """Return what the rule finds in a subject; `Inapplicable` is raised where it can't judge it."""
        return [
            Finding(self.name, seen[3] if len(seen) > 3 else self.severity, *seen[:3], self.statement)
            for seen in self.probe(subject)
        ]


def rule(
    severity: Severity, *, needs: tuple[str, ...] = ("inputs", "values"), survives_failure: bool = False
) -> Callable[[Probe], Rule]:
    """Make a rule of the probe below this line; the arguments are the attributes of `Rule`.

    The probe's name is the rule's, with hyphens, and its docstring the rule's statement. A page's rules are tried
    in the order in which they stand there; that of the pages is in ``doctor/rules/__init__.py``.
    """
    return partial(_rule, severity, needs, survives_failure)


def _rule(severity: Severity, needs: tuple[str, ...], survives_failure: bool, probe: Any) -> Rule:
    statement = (probe.__doc__ or "").rstrip(".")
    name = probe.__name__.replace("_", "-")
    return Rule(name, severity, statement[:1].lower() + statement[1:], probe, needs, survives_failure)


def listed(names: Iterable[str], most: int, *, apart: str = ", ", kind: str = "") -> str:
    """Join as many names as a sentence holds, and count those that are left out: ``a, b and 3 more``."""
    names = list(names)
    more = f" and {len(names) - most} more{kind}" if len(names) > most else ""
    return apart.join(names[:most]) + more
