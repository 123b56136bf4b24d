"""What the tables share."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table


def table(title: str, left: Sequence[str], right: Sequence[str] = (), last: Sequence[str] = ()) -> Table:
    """An empty table: columns of words, of numbers (aligned right), and of words again, which may wrap."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in left:
        made.add_column(name, no_wrap=True)
    for name in right:
        made.add_column(name, justify="right", no_wrap=True)
    for name in last:
        made.add_column(name)
    return made


def times(ratio: float | None, form: str = ".1f") -> str:
    """``31.9 ×``; nothing where there is no ratio."""
    return "" if ratio is None else f"{ratio:{form}} ×"


def wanted(target: float | None) -> str:
    """``≥ 20``; nothing where nothing is asked."""
    return "" if target is None else f"≥ {target:g}"


def planned(plan: dict[str, Any]) -> str:
    """How a population was computed, in a few words."""
    how = f"{'compiled ' if plan['compiled'] else ''}{plan['lowering']} of {plan['shard']}"
    means = f"{plan['threads']} thread{'s' if plan['threads'] > 1 else ''}"
    if plan["workers"] > 1:
        means = f"{plan['workers']} processes"
    alone = f"; member by member: {', '.join(plan['one_by_one'])}" if plan["one_by_one"] else ""
    return f"{how}, {means}" + (f"; {plan['fallback']}" if plan["fallback"] else alone)
