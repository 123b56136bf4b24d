"""A difference as text, and as HTML for a notebook."""

from html import escape
from typing import TYPE_CHECKING

from modelspace.show import bytes_text

if TYPE_CHECKING:
    from modelspace.cost._difference import Change, Difference

LABELS = {
    "parameters": "parameters",
    "trainable": "trainable",
    "frozen": "frozen",
    "buffers": "buffers",
    "modules": "modules",
    "forward_flops": "FLOP forward",
    "backward_flops": "FLOP backward",
    "saved_bytes": "activations kept",
    "peak_bytes": "peak memory",
}
_SIGNS = {"added": "+", "removed": "−", "renamed": "→", "changed": "~"}


def text(difference: "Difference", limit: int = 60) -> str:
    """The difference in lines: totals, then each module that differs; what lies within an added or removed one is
    not repeated.

    Args:
        difference: What is shown.
        limit: Modules that are listed.
    """
    a, b = difference.titles
    lines = [f"A: {a}", f"B: {b}"]
    if difference.equal:
        of = "structure" if difference.untraced else "structure and cost"
        lines.append(f"no difference in {of}: {difference.same} modules are the same")
    rows = total_rows(difference)
    if rows:
        widths = [max(len(row[i]) for row in [("", "A", "B", "B / A"), *rows]) for i in range(4)]
        for row in [("", "A", "B", "B / A"), *rows]:
            cells = [
                row[0].ljust(widths[0]),
                *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)),
            ]
            lines.append(("  " + "   ".join(cells)).rstrip())
    if not difference.equal:
        lines.append(counted(difference))
    listed = outermost(difference)
    lines += [change_line(change) for change in listed[:limit]]
    if len(listed) > limit:
        lines.append(f"… {len(listed) - limit} more")
    lines += [f"= {alias} is tied to {name} in the {side} only" for alias, name, side in difference.ties]
    if difference.inputs is not None:
        x, y = difference.inputs
        lines.append(f"traced on {x}" + ("" if x == y else f" (A) and {y} (B)"))
    if difference.untraced is not None:
        lines.append(f"costs are not compared: {difference.untraced}")
    return "\n".join(lines)


def html(difference: "Difference") -> str:
    """The difference for a notebook; every string is escaped."""

    def row(cells: tuple[str, ...], tag: str = "td") -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    a, b = difference.titles
    totals = "".join(row(cells) for cells in total_rows(difference))
    changes = "".join(f"<li>{escape(change_line(change))}</li>" for change in outermost(difference))
    ties = "".join(
        f"<li>{escape(f'{alias} is tied to {name} in the {side} only')}</li>"
        for alias, name, side in difference.ties
    )
    notes = f"<p>{escape(difference.untraced)}</p>" if difference.untraced else ""
    return (
        f"<div><p><strong>{escape(a)}</strong> and <strong>{escape(b)}</strong>: {escape(counted(difference))}</p>"
        f"<table><thead>{row(('', 'A', 'B', 'B / A'), 'th')}</thead><tbody>{totals}</tbody></table>"
        f"<ul>{changes}{ties}</ul>{notes}</div>"
    )


def total_rows(difference: "Difference") -> list[tuple[str, str, str, str]]:
    """The totals that differ, and the parameters: name, both sides, their ratio."""
    rows = []
    for name, (a, b) in difference.totals.items():
        if a == b and name != "parameters":
            continue
        write = bytes_text if name.endswith("_bytes") else "{:,}".format
        rows.append((LABELS[name], write(a), write(b), f"{b / a:.4g}" if a else "–"))
    return rows


def counted(difference: "Difference") -> str:
    """How many modules are the same, and how many are not."""
    parts = [f"{difference.same} module{'s' * (difference.same != 1)} the same"]
    for kind, words in (
        ("changed", "changed"),
        ("renamed", "only renamed"),
        ("added", "only in B"),
        ("removed", "only in A"),
    ):
        many = sum(change.kind == kind for change in difference.changes)
        parts += [f"{many} {words}"] * bool(many)
    return ", ".join(parts)


def outermost(difference: "Difference") -> list["Change"]:
    """The changes without those inside a module that is itself on one side only."""
    alone = {
        (change.kind, change.name) for change in difference.changes if change.kind in ("added", "removed")
    }

    def within(change: "Change") -> bool:
        parts = change.name.split(".")
        return any((change.kind, ".".join(parts[:i])) in alone for i in range(1, len(parts)))

    return [change for change in difference.changes if not within(change)]


def change_line(change: "Change") -> str:
    """``~ fc (Linear)  weight 1000×512 float32 → 10×512 float32``."""
    name = change.name or "(itself)"
    if change.before is not None and change.before != change.name:
        name = f"{change.before or '(itself)'} → {name}"
    what = ";  ".join(f"{key} {a or 'none'} → {b or 'none'}" for key, (a, b) in change.what.items())
    return f"{_SIGNS[change.kind]} {name} ({change.type})" + (f"  {what}" if what else "")
