"""What the doctor says: one mistake found, with its evidence and its fix."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Observation:
    """What a rule saw; the rule's name, severity and statement make it a `Finding`.

    Attributes:
        where: Module path and line of the user's source, as far as they are known.
        evidence: One sentence with the numbers that were measured.
        fix: Code to paste.
        severity: Where it is not the rule's own.
    """

    where: str
    evidence: str
    fix: str
    severity: Severity | None = None


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
    """

    rule: str
    severity: Severity
    where: str
    evidence: str
    fix: str
    summary: str

    def to_plain(self) -> dict[str, Any]:
        """The finding as plain values, for JSON."""
        return asdict(self)
