"""What a rule is: a name, a severity, a statement, and a probe of the subject."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelspace.doctor.finding import Finding, Observation, Severity

if TYPE_CHECKING:
    from modelspace.doctor.subject import Subject

Probe = Callable[["Subject"], Iterable[Observation]]

# What a rule may need, and the reason given where it is not there.
NEEDS = {
    "inputs": "needs one sample's shape: inputs=(3, 7, 7), --input 3x7x7",
    "loss": "needs loss=, --loss",
    "data": "needs data= or labels=, --data",
    "formula": "needs formula=, --formula",
}


class Inapplicable(Exception):  # noqa: N818: it ends a probe and is no error of anybody's
    """A probe can't judge this subject; the reason is listed among what was skipped."""


@dataclass(frozen=True)
class Rule:
    """One mistake that the doctor looks for.

    Attributes:
        name: As it is typed in ``only`` and ``ignore``.
        severity: Of its findings, unless one says otherwise.
        statement: One line: what is wrong where it fires.
        probe: A subject to what is seen of this mistake; nothing where it has not got it.
        needs: Of `NEEDS`; and ``"values"`` where shapes alone don't do, so that the model must be small enough
            to run.
        survives_failure: It can tell something although the forward fails.
    """

    name: str
    severity: Severity
    statement: str
    probe: Probe
    needs: tuple[str, ...] = ("inputs", "values")
    survives_failure: bool = False

    def findings(self, subject: "Subject") -> list[Finding]:
        """What the rule finds.

        Args:
            subject: The model under examination.

        Raises:
            Inapplicable: the rule can't judge this subject.
        """
        return [
            Finding(
                self.name, seen.severity or self.severity, seen.where, seen.evidence, seen.fix, self.statement
            )
            for seen in self.probe(subject)
        ]
