"""A run's results as tables for the terminal: a title, then a row for each record."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from modelspace.progress import progress

_WORDS = ("workload", "plan", "of what", "rule", "architecture")  # columns aligned left; of numbers, right
_WIDTH = 140  # of a page that is no terminal


def table(title: str, columns: str, records: Iterable[dict[str, Any]], note: str = "") -> list[Table]:
    """A table, with a note below it; none where there are no records.

    Columns are ``name: form`` with ``|`` between; forms are those of ``str.format``, of a record's values by their
    keys. A cell is empty whose value is None, or missing.
    """
    forms = [column.strip().partition(": ")[::2] for column in columns.split("|")]
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    made.caption, made.caption_justify = note or None, "left"
    for name, _ in forms:
        made.add_column(name, justify="left" if name in _WORDS else "right", no_wrap=name != "plan")
    for record in records:
        plan = {"how": planned(record["plan"])} if "plan" in record else {}
        made.add_row(*(_cell(form, record | plan) for _, form in forms))
    return [made] if made.rows else []


def _cell(form: str, record: dict[str, Any]) -> str:
    try:
        return form.format(**record)
    except (TypeError, KeyError):
        return ""


def planned(plan: dict[str, Any]) -> str:
    """How a population was computed, in a few words."""
    how = f"{'compiled ' if plan['compiled'] else ''}{plan['lowering']} of {plan['shard']}"
    means = f"{plan['threads']} thread{'s' if plan['threads'] > 1 else ''}"
    if plan["workers"] > 1:
        means = f"{plan['workers']} processes"
    alone = f"; member by member: {', '.join(plan['one_by_one'])}" if plan["one_by_one"] else ""
    return f"{how}, {means}" + (f"; {plan['fallback']}" if plan["fallback"] else alone)


def draw(head: str, tables: Sequence[Table], *, stderr: bool = False, width: int | None = None) -> None:
    """Print the tables, on standard output unless that belongs to the JSON."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    console = Console(stderr=stderr, highlight=False, width=width or (None if terminal else _WIDTH))
    for part in filter(None, (head, *tables)):
        console.print(part)
        console.print()


def times(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """How many times as fast ours are: the median of the repeats, whose sides met the same neighbours."""
    return median(a / b for a, b in zip(theirs, ours, strict=True))


def each(title: str, items: Sequence[Any], unit: str) -> Iterator[Any]:
    """The items, under a progress bar."""
    with progress(title, len(items), unit) as advance:
        for item in items:
            yield item
            advance(1)


def check(name: str, wanted: str, found: str, met: bool) -> dict[str, Any]:
    """A target and what was reached."""
    return {"name": name, "wanted": wanted, "found": found, "met": met}
