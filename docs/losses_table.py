"""Rewrite the table of all losses in ``losses.md`` from the catalogue: ``python docs/losses_table.py``."""

import math
from pathlib import Path

import pandas as pd

from modelspace import losses

PAGE = Path(__file__).with_name("losses.md")
BEGIN, END = "<!-- all losses: begin -->", "<!-- all losses: end -->"
COLUMNS = ("loss", "formula", "parameters", "convex", "Lipschitz", "smooth", "calibrated", "proper", "source")


def markdown(table: pd.DataFrame) -> str:
    """The catalogue's table in Markdown, kind by kind."""
    parts = []
    for kind in losses.KINDS:
        own = table[table["kind"] == kind]
        lines = [
            f"### {kind.capitalize()}",
            "",
            f"| {' | '.join(COLUMNS)} |",
            "|" + "---|" * len(COLUMNS),
        ]
        for name, row in own.iterrows():
            cells = [_cell(row[column.lower()]) for column in COLUMNS[1:]]
            lines.append(f"| `{name}` | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float | int):
        return "∞" if math.isinf(value) else f"{value:.4g}"
    return str(value).replace("|", "\\|").replace("*", "\\*").replace("_", "\\_").replace("<", "&lt;")


def rewritten(page: str) -> str:
    """A page with the table as it is now between its two marks."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{markdown(losses.table())}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
