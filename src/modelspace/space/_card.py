"""The card of a space: H, n, and where each coordinate belongs, as text and as HTML."""

from collections.abc import Sequence
from html import escape

Facts = Sequence[tuple[str, str]]
Places = Sequence[tuple[str, str, str, str]]
_SHOWN = 24


def text_card(head: str, facts: Facts, places: Places) -> str:
    """The card as text; the middle of a long list of tensors is folded.

    Args:
        head: Its first line.
        facts: Names and values.
        places: Each tensor's name, shape, size and place.
    """
    rows = [*places]
    folded = len(rows) - _SHOWN
    if folded > 1:
        rows = [*rows[: _SHOWN // 2], (f"… {folded} more", "", "", ""), *rows[len(rows) - _SHOWN // 2 :]]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [head, *(f"  {name:<14}{value}" for name, value in facts)]
    for name, shape, size, place in rows:
        cells = (name.ljust(widths[0]), shape.rjust(widths[1]), size.rjust(widths[2]), place)
        lines.append(("  " + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def html_card(title: str, formula: str, facts: Facts, places: Places, blocks: int) -> str:
    """The card for a notebook; every string is escaped.

    Args:
        title: The architecture's.
        formula: H.
        facts: Names and values.
        places: Each tensor's name, shape, size and place.
        blocks: How many of them are coordinates.
    """

    def rows(table: Sequence[tuple[str, ...]]) -> str:
        return "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table
        )

    return (
        f"<div><p><strong>{escape(title)}</strong> &nbsp; {escape(formula)}</p>"
        f"<table>{rows(facts)}</table><details open><summary>{blocks} coordinate blocks</summary>"
        "<table><thead><tr><th>name</th><th>shape</th><th>numbers</th><th>place</th></tr></thead>"
        f"<tbody>{rows(places)}</tbody></table></details></div>"
    )
