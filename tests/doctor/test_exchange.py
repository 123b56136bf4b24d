"""Diagnoses for other tools: SARIF against its rules, GitHub's against theirs, baselines against moved sources."""

import json
import re

import jsonschema
import pytest
from torch import nn

import modelspace as ms
from modelspace.doctor import RULES, annotations, sarif, write_baseline
from modelspace.doctor.exchange import identified
from modelspace.doctor.places import located
from modelspace.loading import load_architecture

# What SARIF 2.1.0 (OASIS, sections 3.13 to 3.52) requires of the parts that are used; no other parts are.
TEXT = {
    "type": "object",
    "required": ["text"],
    "additionalProperties": False,
    "properties": {"text": {"type": "string"}},
}
LEVEL = {"enum": ["none", "note", "warning", "error"]}


def closed(required, **properties):
    return {
        "type": "object",
        "required": required.split(),
        "additionalProperties": False,
        "properties": properties,
    }


URI = {"type": "string", "pattern": r"^([a-z]+:///|[^/\\: ])[^\\ ]*$"}
PHYSICAL = closed(
    "artifactLocation",
    artifactLocation=closed("uri", uri=URI),
    region=closed("startLine", startLine={"type": "integer", "minimum": 1}),
)
LOGICAL = closed("", fullyQualifiedName={"type": "string"}, kind={"type": "string"})
RESULT = closed(
    "ruleId message",
    ruleId={"enum": [rule.name for rule in RULES]},
    ruleIndex={"type": "integer", "minimum": 0, "maximum": len(RULES) - 1},
    level=LEVEL,
    message=TEXT,
    locations={
        "type": "array",
        "items": closed("", physicalLocation=PHYSICAL, logicalLocations={"type": "array", "items": LOGICAL}),
    },
    partialFingerprints={"type": "object", "additionalProperties": {"type": "string"}},
    properties={"type": "object"},
    baselineState={"enum": ["new", "unchanged", "updated", "absent"]},
    suppressions={
        "type": "array",
        "items": closed("kind", kind={"enum": ["inSource", "external"]}, justification={}),
    },
)
RULE = closed(
    "id",
    id={"type": "string"},
    name={"type": "string"},
    shortDescription=TEXT,
    help=TEXT,
    defaultConfiguration=closed("", level=LEVEL),
)
DRIVER = closed(
    "name",
    name={"type": "string"},
    semanticVersion={"type": "string"},
    rules={"type": "array", "items": RULE, "uniqueItems": True},
)
RUN = closed(
    "tool",
    tool=closed("driver", driver=DRIVER),
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    results={"type": "array", "items": RESULT},
)
SCHEMA = closed(
    "version runs",
    version={"const": "2.1.0"},
    runs={"type": "array", "items": RUN},
    **{"$schema": {"type": "string", "format": "uri"}},
)

NET = """from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 9, 3)
        self.norm = nn.Linear(225, 225)
        self.fc = nn.Linear(225, 10)
        self.soft = nn.Softmax(dim=1)

    def forward(self, x):
        x = self.conv(x).relu()
        x = x.view(-1, 225)
        return self.soft(self.fc(self.norm(x)))
"""
ONLY = ("softmax-before-cross-entropy", "batch-reshape", "linear-chain")


@pytest.fixture
def examined(tmp_path, monkeypatch):
    """Examine a text as the file nets.py of the working folder."""
    monkeypatch.chdir(tmp_path)

    def examine(text=NET, file="nets.py", **given):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
        net = load_architecture(f"{file}:Net")
        return ms.doctor(net, inputs=(3, 7, 7), loss="cross_entropy", only=ONLY, **given)

    return examine


def test_findings_have_the_line_that_shows_them(examined):
    found = examined()
    last = "return self.soft(self.fc(self.norm(x)))"
    lines = {f.rule: (f.file, NET.splitlines()[f.line - 1].strip()) for f in found.findings}
    assert lines == {
        "softmax-before-cross-entropy": ("nets.py", last),
        "batch-reshape": ("nets.py", "x = x.view(-1, 225)"),
        "linear-chain": ("nets.py", last),
    }


BLOCKS = """from torch import nn


class Block(nn.Sequential):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)


class Net(nn.Sequential):
    def __init__(self):
        super().__init__()
        self.first: nn.Module = nn.BatchNorm1d(4)
        self.block = Block()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.add_module("last", nn.BatchNorm1d(4))
"""


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("first (BatchNorm1d)", "self.first: nn.Module = nn.BatchNorm1d(4)"),
        ("block.norm (BatchNorm1d)", "self.norm = nn.BatchNorm1d(4)"),
        ("block.norm.weight, block.norm.bias", "self.norm = nn.BatchNorm1d(4)"),
        ("body.1 (BatchNorm1d)", "self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))"),
        ("last (BatchNorm1d)", "class Net(nn.Sequential):"),
        ("the loss", "class Net(nn.Sequential):"),
        ("first (BatchNorm1d), then last (BatchNorm1d), nets.py:2", ""),
    ],
)
def test_a_layer_has_the_line_that_builds_it(where, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(BLOCKS)
    net = load_architecture("nets.py:Net")
    file, number = located(where, net(), net)
    assert (file, BLOCKS.splitlines()[number - 1].strip()) == ("nets.py", line)


def test_what_was_typed_in_has_no_line():
    (typed,) = ms.doctor(nn.Linear(4, 3).requires_grad_(False)).findings
    assert (typed.file, typed.line) == ("", 0)


def test_the_log_is_sarif(examined, tmp_path):
    found = examined()
    log = json.loads(json.dumps(sarif(found)))
    jsonschema.validate(log, SCHEMA)
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [rule.name for rule in RULES]
    assert len(run["results"]) == 3
    for result, finding in zip(run["results"], found.findings, strict=True):
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == finding.rule
        place = result["locations"][0]["physicalLocation"]
        assert place == {"artifactLocation": {"uri": "nets.py"}, "region": {"startLine": finding.line}}
        assert all(said in result["message"]["text"] for said in (finding.evidence, finding.fix))
        assert result["partialFingerprints"] == {"modelspaceDoctor/v1": finding.fingerprint}
    assert [r["level"] for r in run["results"]] == ["error", "warning", "warning"]
    known = examined(baseline=_written(found, tmp_path))
    log = sarif(known)
    jsonschema.validate(log, SCHEMA)
    assert {r["baselineState"] for r in log["runs"][0]["results"]} == {"unchanged"}
    assert all(r["suppressions"] for r in log["runs"][0]["results"])


def test_places_elsewhere_and_nowhere_are_sarif(examined, tmp_path, monkeypatch):
    examined()
    found = examined(file="my nets/nets.py")
    assert [f.file for f in found.findings] == ["my nets/nets.py"] * 3
    jsonschema.validate(sarif(found), SCHEMA)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    outside = ms.doctor(load_architecture("../nets.py:Net"), inputs=(3, 7, 7), only=["batch-reshape"])
    assert [f.file for f in outside.findings] == [str(tmp_path / "nets.py")]
    jsonschema.validate(sarif(outside), SCHEMA)
    nowhere = ms.doctor(nn.Linear(4, 3).requires_grad_(False))
    jsonschema.validate(sarif(nowhere), SCHEMA)
    (result,) = sarif(nowhere)["runs"][0]["results"]
    assert "physicalLocation" not in result["locations"][0]


@pytest.mark.parametrize(
    ("broken", "message"),
    [({"version": "2.0.0"}, "2.1.0"), ({"runs": [{}]}, "tool"), ({"other": 1}, "Additional")],
)
def test_the_schema_refuses(broken, message):
    with pytest.raises(jsonschema.ValidationError, match=message):
        jsonschema.validate({"version": "2.1.0", "runs": [], **broken}, SCHEMA)


def test_annotations_are_workflow_commands(examined):
    *lines, last = annotations(examined()).splitlines()
    command = re.compile(
        r"::(error|warning|notice) file=nets\.py,line=(\d+),title=modelspace ([\w-]+)::([^\r\n]+)"
    )
    read = [command.fullmatch(line).groups() for line in lines]
    assert [(level, rule) for level, _, rule, _ in read] == [
        ("error", ONLY[0]),
        ("warning", ONLY[1]),
        ("warning", ONLY[2]),
    ]
    assert last.startswith("Net: 1 error")


def test_annotations_are_escaped():
    # actions/toolkit, command.ts: data %, \r, \n; properties : and , too.
    finding = ms.Finding("batch-reshape", "info", "a", "100 %\r\n::error::x", "a, b: c", "s", "d,e:f%.py", 3)
    text = annotations(ms.Diagnosis("Net", (finding,), (), {}, 0.0))
    assert text.splitlines()[0] == (
        "::notice file=d%2Ce%3Af%25.py,line=3,title=modelspace batch-reshape::"
        "s: 100 %25%0D%0A::error::x%0Aat a%0Afix:%0Aa, b: c"
    )
    assert len(text.splitlines()) == 2


def _written(found, folder):
    write_baseline(found, folder / "known.json")
    return folder / "known.json"


def test_known_findings_stay_known_when_lines_and_folders_move(examined, tmp_path):
    baseline = _written(examined(), tmp_path)
    moved = "import math\n\n# a comment\n\n" + NET.replace("        x = x.view", "\n\n        x = x.view")
    for file in ("nets.py", "other/nets.py"):
        again = examined(moved, file, baseline=baseline)
        assert again.healthy
        assert (len(again.known), again.findings, again.gone) == (3, (), ())
        assert "known: 1 error (softmax-before-cross-entropy), 2 warnings" in str(again)


def test_what_is_new_fails_and_what_is_gone_is_said(examined, tmp_path):
    baseline = _written(examined(NET.replace("self.soft(self", "(self")), tmp_path)
    again = examined(NET.replace("x.view(-1, 225)", "x.flatten(1)"), baseline=baseline)
    assert not again.healthy
    assert [f.rule for f in again.findings] == ["softmax-before-cross-entropy"]
    assert again.gone == ("batch-reshape at Net, nets.py",)
    assert "gone since" in again.last_line


def test_a_warning_that_has_become_an_error_is_new(examined, tmp_path):
    wide = NET.replace("nn.Linear(225, 225)", "nn.Linear(25, 225)")
    baseline = _written(examined(), tmp_path)
    again = examined(wide.replace("x.view(-1, 225)", "x.view(-1, 25)"), baseline=baseline)
    assert [(f.rule, f.severity) for f in again.findings][:1] == [("batch-reshape", "error")]


def test_two_alike_are_two():
    net = nn.Linear(4, 3)
    twice = [ms.Finding("r", "error", f"Net, nets.py:{line}", "e", "f", "s") for line in (3, 8)]
    first, second = identified(twice, "Net", net, net)
    assert first.fingerprint != second.fingerprint
    assert [f.fingerprint for f in identified(twice[1:], "Net", net, net)] == [first.fingerprint]


def test_a_baseline_holds_several_models_and_is_the_same_text_twice(examined, tmp_path):
    found = examined()
    baseline = _written(found, tmp_path)
    text = baseline.read_text()
    assert _written(found, tmp_path).read_text() == text
    assert not re.search(r"\.py:\d", text)
    frozen = ms.doctor(nn.Linear(4, 3).requires_grad_(False))
    _written(frozen, tmp_path)
    assert examined(baseline=baseline).healthy
    assert ms.doctor(nn.Linear(4, 3).requires_grad_(False), baseline=baseline).healthy
    # Of rules that an examination left out nothing is known, so what is written of them stays.
    few = ms.doctor(
        load_architecture("nets.py:Net"), inputs=(3, 7, 7), only=["batch-reshape"], baseline=baseline
    )
    assert few.gone == ()
    _written(few, tmp_path)
    assert examined(baseline=baseline).healthy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no baseline"),
        ("[]", "is no baseline"),
        ("{", "no JSON"),
        ('{"version": 2, "findings": []}', "version 2"),
    ],
)
def test_what_is_no_baseline_is_refused(text, message, tmp_path):
    path = tmp_path / "known.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ms.ModelspaceError, match=message):
        ms.doctor(nn.Linear(4, 3), baseline=path)
