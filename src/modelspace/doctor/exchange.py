"""A diagnosis for other people's tools: SARIF, GitHub's annotations, and a baseline of findings that are known."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import quote

from torch import nn

from modelspace import __version__
from modelspace.atomic import whole_file
from modelspace.doctor.diagnosis import Diagnosis
from modelspace.doctor.places import located
from modelspace.doctor.rule import SEVERITIES, Finding
from modelspace.doctor.rules import RULES
from modelspace.errors import ModelspaceError, first_line
from modelspace.plain import parsed

_LEVELS = {"error": "error", "warning": "warning", "info": "note"}
_NOTICES = {"error": "error", "warning": "warning", "info": "notice"}
_MEANING = {
    "error": "Training can't do what is meant.",
    "warning": "It likely costs quality or time.",
    "info": "Worth knowing.",
}
_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def identified(findings: Iterable[Finding], title: str, root: nn.Module, source: Any) -> list[Finding]:
    """Return findings with their file, line and fingerprint.

    Args:
        findings: In the order in which they were made; of two that are alike the second is another than the first.
        title: The model's name.
        root: The module.
        source: What it was made of.
    """
    times, found = Counter[tuple[str, ...]](), list[Finding]()
    for finding in findings:
        # The folder and the line are no part of it: a file may move, and be examined from elsewhere.
        where = re.sub(r"[^,;]*?([^\s/\\,;]+\.py):\d+", r"\1", finding.where)
        key = (finding.rule, finding.severity, title, where)
        times[key] += 1
        digest = hashlib.sha256("\0".join((*key, str(times[key]))).encode()).hexdigest()[:16]
        file, line = located(finding.where, root, source)
        found.append(replace(finding, file=file, line=line, fingerprint=digest))
    return found


def sarif(found: Diagnosis) -> dict[str, Any]:
    """Return a diagnosis as a SARIF 2.1.0 log: plain values, for ``json.dumps``.

    All rules are listed, with what they mean. A result of a baseline is ``unchanged`` and suppressed, any other is
    ``new``; without a baseline none is either.

    Args:
        found: What ``doctor`` returned.

    Example:
        >>> from modelspace.doctor import doctor
        >>> log = sarif(doctor(nn.Linear(4, 3).requires_grad_(False)))
        >>> [(r["ruleId"], r["level"]) for r in log["runs"][0]["results"]]
        [('frozen-parameters', 'error')]
    """
    compared = bool(found.known or found.baseline)
    results = [_result(f, "new" if compared else "") for f in found.findings]
    results += [_result(f, "unchanged") for f in found.known]
    driver = {
        "name": "modelspace",
        "semanticVersion": __version__,
        "rules": [_described(rule) for rule in RULES],
    }
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _described(rule: Any) -> dict[str, Any]:
    sentence = f"{rule.statement[:1].upper()}{rule.statement[1:]}."
    return {
        "id": rule.name,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),
        "shortDescription": {"text": sentence},
        "help": {
            "text": f"{sentence} {_MEANING[rule.severity]} Each finding has what was measured and the fix as code. "
            f"It is the page rules/{rule.name} of the documentation, and ignore=['{rule.name}'] leaves it out."
        },
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
    }


def _result(finding: Finding, state: str) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": [rule.name for rule in RULES].index(finding.rule),
        "level": _LEVELS[finding.severity],
        "message": {"text": _told(finding)},
        "locations": [{"logicalLocations": [{"fullyQualifiedName": finding.where, "kind": "module"}]}],
        "partialFingerprints": {"modelspaceDoctor/v1": finding.fingerprint},
        "properties": {"fix": finding.fix},
    }
    if finding.file:
        absolute = Path(finding.file).is_absolute()
        uri = Path(finding.file).as_uri() if absolute else quote(finding.file)
        region = {"region": {"startLine": finding.line}} if finding.line else {}
        result["locations"][0]["physicalLocation"] = {"artifactLocation": {"uri": uri}, **region}
    if state:
        result["baselineState"] = state
    if state == "unchanged":
        result["suppressions"] = [{"kind": "external", "justification": "it is in the baseline"}]
    return result


def _told(finding: Finding) -> str:
    return f"{finding.summary}: {finding.evidence}\nat {finding.where}\nfix:\n{finding.fix}"


def annotations(found: Diagnosis) -> str:
    """Return a diagnosis as GitHub's workflow commands, a line for each finding, and its last line for the log.

    Args:
        found: What ``doctor`` returned.

    Example:
        >>> from modelspace.doctor import doctor
        >>> print(annotations(doctor(nn.Linear(4, 3).requires_grad_(False), only=["frozen-parameters"])))
        ::error title=modelspace frozen-parameters::what must be trained is frozen: ...
        Linear: 1 error (frozen-parameters); 1 rules checked in ... s.
    """
    lines = []
    for finding in found.findings:
        place = {"file": finding.file, "line": finding.line or None} if finding.file else {}
        given = {**place, "title": f"modelspace {finding.rule}"}
        said = ",".join(f"{name}={_property(str(value))}" for name, value in given.items() if value)
        lines.append(f"::{_NOTICES[finding.severity]} {said}::{_data(_told(finding))}")
    return "\n".join([*lines, found.last_line.replace("\n", " ")])


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


class _Entry(TypedDict):
    """A finding that is known: what makes it this one, and what a reader of the file wants to see of it."""

    model: str
    rule: str
    severity: str
    where: str
    fingerprint: str


class _Baseline(TypedDict):
    """The file."""

    version: int
    findings: list[_Entry]


def write_baseline(found: Diagnosis, path: str | os.PathLike[str]) -> None:
    """Write a diagnosis's findings down as known; what the file says of other models and of other rules stays.

    The text has no lines of source and no dates, so that it changes only where the findings do.

    Args:
        found: What ``doctor`` returned; what it held against a baseline is known too.
        path: The file, which ``doctor(…, baseline=path)`` reads.

    Raises:
        ModelspaceError: there is such a file and it is no baseline, or it can't be written.
    """
    path = Path(path)
    before = _entries(path) if path.exists() else []
    others = [e for e in before if e["model"] != found.title or e["rule"] not in found.checked]
    own = [
        _Entry(
            model=found.title,
            rule=f.rule,
            severity=f.severity,
            where=re.sub(r"(\.py):\d+", r"\1", f.where),
            fingerprint=f.fingerprint,
        )
        for f in (*found.findings, *found.known)
    ]
    rank = {severity: place for place, severity in enumerate(SEVERITIES)}
    entries = sorted([*others, *own], key=lambda e: (e["model"], rank.get(e["severity"], 9), *e.values()))
    with whole_file(path) as file:
        text = json.dumps({"version": 1, "findings": entries}, indent=1, ensure_ascii=False)
        file.write_text(f"{text}\n", encoding="utf-8")


def held_against(found: Diagnosis, path: str | os.PathLike[str]) -> Diagnosis:
    """Return a diagnosis whose findings are those that a baseline does not know.

    Args:
        found: Of everything.
        path: What ``write_baseline`` wrote.

    Raises:
        ModelspaceError: there is no such file, or it is no baseline.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelspaceError(f"no baseline {path}: write_baseline(found, path) writes one")
    entries = [entry for entry in _entries(path) if entry["model"] == found.title]
    known = {entry["fingerprint"] for entry in entries}
    seen = {f.fingerprint for f in found.findings}
    gone = [e for e in entries if e["fingerprint"] not in seen and e["rule"] in found.checked]
    return replace(
        found,
        findings=tuple(f for f in found.findings if f.fingerprint not in known),
        known=tuple(f for f in found.findings if f.fingerprint in known),
        gone=tuple(f"{e['rule']} at {e['where']}" for e in gone),
        baseline=str(path),
    )


def _entries(path: Path) -> list[_Entry]:
    try:
        values = parsed(path.read_text(encoding="utf-8"), _Baseline, "it")
    except (OSError, ValueError) as error:
        raise ModelspaceError(f"{path} is no baseline of the doctor's: {first_line(error)}") from error
    if values["version"] != 1:
        raise ModelspaceError(
            f"{path} is a baseline of version {values['version']}, and this doctor reads version 1"
        )
    return values["findings"]
