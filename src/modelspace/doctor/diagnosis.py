"""Everything that one examination found, checked and could not check, for a terminal, a notebook and JSON."""

import textwrap
from dataclasses import dataclass
from html import escape

from modelspace.doctor.rule import SEVERITIES, Finding
from modelspace.errors import printable

_WIDTH = 100


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What the doctor found.

    Attributes:
        title: The model's name.
        findings: The worst first.
        checked: Names of the rules that were tried.
        skipped: Name of each rule that was not, with the reason.
        seconds: Time that it took, in seconds.
        known: Findings that the baseline has, the worst first; they are no ``findings``.
        gone: What the baseline has and this examination looked for and did not find: rule and place.
        baseline: The baseline's file; empty where there is none.
    """

    title: str
    findings: tuple[Finding, ...]
    checked: tuple[str, ...]
    skipped: dict[str, str]
    seconds: float
    known: tuple[Finding, ...] = ()
    gone: tuple[str, ...] = ()
    baseline: str = ""

    @property
    def healthy(self) -> bool:
        """Whether there is no finding above ``"info"``, other than known ones."""
        return all(finding.severity == "info" for finding in self.findings)

    def of(self, rule: str) -> tuple[Finding, ...]:
        """Return the findings of one rule.

        Args:
            rule: Its name.
        """
        return tuple(finding for finding in self.findings if finding.rule == rule)

    @property
    def counted(self) -> str:
        """How many of each severity, and the rules' names: ``1 warning (batch-reshape), 1 info (inplace-hook)``."""
        return _counted(self.findings) or "nothing found"

    def __str__(self) -> str:
        # Names of layers and classes are a stranger's, and so may be what an error says.
        return printable("\n\n".join([*map(_block, self.findings), self.last_line]))

    def __repr__(self) -> str:
        return str(self)

    @property
    def last_line(self) -> str:
        """The model, how much of what, what is known and gone, and what could not be checked and why."""
        line = f"{self.title}: {self.counted}"
        line += f"; known: {_counted(self.known)}" if self.known else ""
        line += f"; gone since {self.baseline} was written: {', '.join(self.gone)}" if self.gone else ""
        line += f"; {len(self.checked)} rules checked in {self.seconds:.1f} s"
        by_reason: dict[str, list[str]] = {}
        for rule, reason in self.skipped.items():
            by_reason.setdefault(reason, []).append(rule)
        skipped = "; ".join(f"{', '.join(rules)} ({reason})" for reason, rules in by_reason.items())
        return f"{line}. Not checked: {skipped}" if skipped else f"{line}."

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(f.severity)}</td><td>{escape(f.rule)}</td><td>{escape(f.where)}</td>"
            f"<td>{escape(f.summary)}<br>{escape(f.evidence)}<pre>{escape(f.fix)}</pre></td></tr>"
            for f in self.findings
        )
        head = "<tr><th>severity</th><th>rule</th><th>where</th><th>what</th></tr>" if rows else ""
        return f"<table>{head}{rows}</table><p>{escape(self.last_line)}</p>"


def _counted(findings: tuple[Finding, ...]) -> str:
    parts = []
    for severity in SEVERITIES:
        rules = [finding.rule for finding in findings if finding.severity == severity]
        if rules:
            plural = "s" if len(rules) > 1 and severity != "info" else ""
            parts.append(f"{len(rules)} {severity}{plural} ({', '.join(dict.fromkeys(rules))})")
    return ", ".join(parts)


def _block(finding: Finding) -> str:
    head = f"{finding.severity.upper()} {finding.rule}: {finding.summary}"
    fill = textwrap.TextWrapper(_WIDTH, initial_indent="    ", subsequent_indent="    ").fill
    fix = textwrap.indent(finding.fix, "        ")
    return "\n".join([head, fill(f"at {finding.where}"), fill(finding.evidence), "    fix:", fix])
