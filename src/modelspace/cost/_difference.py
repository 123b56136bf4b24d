"""How two architectures differ, as one frozen record with its text."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from modelspace.show import bytes_text

_LABELS = {
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


@dataclass(frozen=True)
class Change:
    """One module that is not the same on both sides.

    Attributes:
        kind: ``"added"`` (only in the second), ``"removed"`` (only in the first), ``"renamed"`` (the same under
            another name) or ``"changed"``.
        name: Its name in the second architecture; in the first where it was removed.
        before: Its name in the first; None where it was added.
        type: Its class's name, of the side that ``name`` is of.
        parameters: Elements of its own parameters on both sides.
        what: What differs, by name, as text of both sides.
    """

    kind: str
    name: str
    before: str | None
    type: str
    parameters: tuple[int, int]
    what: Mapping[str, tuple[str, str]]

    def line(self) -> str:
        """``~ fc (Linear)  weight 1000×512 float32 → 10×512 float32``."""
        name = self.name or "(itself)"
        if self.before is not None and self.before != self.name:
            name = f"{self.before or '(itself)'} → {name}"
        what = ";  ".join(f"{key} {a or 'none'} → {b or 'none'}" for key, (a, b) in self.what.items())
        return f"{_SIGNS[self.kind]} {name} ({self.type})" + (f"  {what}" if what else "")


@dataclass(frozen=True)
class Difference:
    """How two architectures differ in structure and cost; the values of their parameters are not looked at.

    Attributes:
        titles: Their names with their arguments.
        changes: Every module that differs.
        same: How many modules are the same.
        totals: Numbers of the whole by name, both sides; costs are missing where no pass was traced.
        ties: What is tied to what on one side only, with the side, ``"first"`` or ``"second"``.
        inputs: On what each was traced; None where it wasn't.
        untraced: Why no pass was traced; None where it was.
    """

    titles: tuple[str, str]
    changes: tuple[Change, ...]
    same: int
    totals: Mapping[str, tuple[int, int]]
    ties: tuple[tuple[str, str, str], ...]
    inputs: tuple[str, str] | None
    untraced: str | None

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not self.changes and not self.ties and all(a == b for a, b in self.totals.values())

    def text(self, limit: int = 60) -> str:
        """Return it in lines: totals, then each module that differs, without what lies in an added or removed one.

        Args:
            limit: Modules that are listed.
        """
        a, b = self.titles
        lines = [f"A: {a}", f"B: {b}"]
        if self.equal:
            of = "structure" if self.untraced else "structure and cost"
            lines.append(f"no difference in {of}: {self.same} modules are the same")
        rows = self._total_rows()
        if rows:
            widths = [max(len(row[i]) for row in [("", "A", "B", "B / A"), *rows]) for i in range(4)]
            for row in [("", "A", "B", "B / A"), *rows]:
                cells = [
                    row[0].ljust(widths[0]),
                    *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)),
                ]
                lines.append(("  " + "   ".join(cells)).rstrip())
        if not self.equal:
            lines.append(self._counted())
        listed = self._outermost()
        lines += [change.line() for change in listed[:limit]]
        if len(listed) > limit:
            lines.append(f"… {len(listed) - limit} more")
        lines += [f"= {alias} is tied to {name} in the {side} only" for alias, name, side in self.ties]
        if self.inputs is not None:
            x, y = self.inputs
            lines.append(f"traced on {x}" + ("" if x == y else f" (A) and {y} (B)"))
        if self.untraced is not None:
            lines.append(f"costs are not compared: {self.untraced}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        def row(cells: tuple[str, ...], tag: str = "td") -> str:
            return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        a, b = self.titles
        totals = "".join(row(cells) for cells in self._total_rows())
        changes = "".join(f"<li>{escape(change.line())}</li>" for change in self._outermost())
        ties = "".join(
            f"<li>{escape(f'{alias} is tied to {name} in the {side} only')}</li>"
            for alias, name, side in self.ties
        )
        notes = f"<p>{escape(self.untraced)}</p>" if self.untraced else ""
        return (
            f"<div><p><strong>{escape(a)}</strong> and <strong>{escape(b)}</strong>: {escape(self._counted())}</p>"
            f"<table><thead>{row(('', 'A', 'B', 'B / A'), 'th')}</thead><tbody>{totals}</tbody></table>"
            f"<ul>{changes}{ties}</ul>{notes}</div>"
        )

    def _total_rows(self) -> list[tuple[str, str, str, str]]:
        """The totals that differ, and the parameters: name, both sides, their ratio."""
        rows = []
        for name, (a, b) in self.totals.items():
            if a == b and name != "parameters":
                continue
            write = bytes_text if name.endswith("_bytes") else "{:,}".format
            rows.append((_LABELS[name], write(a), write(b), f"{b / a:.4g}" if a else "–"))
        return rows

    def _counted(self) -> str:
        """How many modules are the same, and how many are not."""
        parts = [f"{self.same} module{'s' * (self.same != 1)} the same"]
        for kind, words in (
            ("changed", "changed"),
            ("renamed", "only renamed"),
            ("added", "only in B"),
            ("removed", "only in A"),
        ):
            many = sum(change.kind == kind for change in self.changes)
            parts += [f"{many} {words}"] * bool(many)
        return ", ".join(parts)

    def _outermost(self) -> list[Change]:
        """The changes without those inside a module that is itself on one side only."""
        alone = {(change.kind, change.name) for change in self.changes if change.kind in ("added", "removed")}

        def within(change: Change) -> bool:
            parts = change.name.split(".")
            return any((change.kind, ".".join(parts[:i])) in alone for i in range(1, len(parts)))

        return [change for change in self.changes if not within(change)]

    def __repr__(self) -> str:
        return self.text()
