"""Each rule has a page whose example fires it and whose fix silences it; the overview lists them all."""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from modelspace.doctor import RULES

DOCS = Path(__file__).parents[2] / "docs"
NAMES = [rule.name for rule in RULES]


def test_each_rule_has_a_page_and_each_page_a_rule():
    assert sorted(path.stem for path in (DOCS / "rules").glob("*.md")) == sorted(NAMES)


def test_the_overview_lists_the_rules_as_they_are():
    rows = re.findall(
        r"^\| \[([\w-]+)\]\(rules/([\w-]+)\.md\) \| (\w+) \| (.+) \|$", overview(), re.MULTILINE
    )
    assert rows == [(rule.name, rule.name, rule.severity, rule.statement) for rule in RULES]


def overview():
    return (DOCS / "doctor.md").read_text(encoding="utf-8")


def test_names_are_unique():
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_example_fires_and_the_fix_silences(name):
    page = (DOCS / "rules" / f"{name}.md").read_text(encoding="utf-8")
    example, fix = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    namespace = {"__name__": "page"}
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(example, name, "exec"), namespace)
        faulty = namespace.pop("found")
        exec(compile(fix, name, "exec"), namespace)
        fixed = namespace["found"]
    assert faulty.of(name)
    assert name in printed.getvalue()
    assert not fixed.of(name)
    assert fixed.healthy, str(fixed)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_the_severity_and_statement(name):
    rule = RULES[NAMES.index(name)]
    page = (DOCS / "rules" / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {name}\n\n**{rule.severity}**: {rule.statement}.\n")
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert headings == [
        "What it means",
        "How it is found",
        "An example that fires",
        "The fix",
        "When to ignore it",
        "Sources",
    ]
