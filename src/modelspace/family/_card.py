"""The card of a family: its laws, and its members."""

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelspace.family._family import Family


def text_card(family: "Family", rows: int = 12) -> str:
    """The card as text; the middle of a long table is folded."""
    table = family.table.to_string(max_rows=rows, index=True)
    return "\n".join([f"{family.title}: {_members(family)}", *_notes(family), table, *_refused(family)])


def html_card(family: "Family") -> str:
    """The card for a notebook; every string is escaped."""
    table = family.table.to_html(max_rows=12, escape=True)
    notes = "".join(f"<li><code>{escape(line)}</code></li>" for line in _notes(family))
    refused = "".join(f"<p>{escape(line)}</p>" for line in _refused(family))
    return (
        f"<div><p><strong>{escape(family.title)}</strong> {escape(_members(family))}</p>"
        f"<ul>{notes}</ul>{table}{refused}</div>"
    )


def _members(family: "Family") -> str:
    count = len(family)
    return f"{count:,} space{'s' if count > 1 else ''}"


def _notes(family: "Family") -> list[str]:
    # The table first: the members traced for it may contradict a law.
    measured = len(family.table)
    lines = []
    for quantity in family.quantities:
        if quantity != "peak_bytes" or family.memory_by_law:
            lines += str(family.laws[quantity]).splitlines()
        else:
            lines.append(f"peak_bytes: a maximum, measured in each of the {measured} members")
    if len(family.quantities) > 1:
        samples = "a sample" if family.batch == 1 else f"a batch of {family.batch}"
        of = "FLOP and bytes" if "peak_bytes" in family.quantities else "FLOP"
        lines.append(f"{of} are of one forward and backward over {samples}")
    return lines


def _refused(family: "Family") -> list[str]:
    return [f"row {row} can't be built: {reason}" for row, reason in family.refused.items()]
