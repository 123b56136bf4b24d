"""The page of an inspection: its facts and treemaps, and the whole tree as a table, in one file without network."""

import os

from modelspace.cost import COLUMNS, Inspection, headings
from modelspace.report import document
from modelspace.report.inspection_figures import treemap
from modelspace.report.parts import Plot, Table

_DEEP = 99
_SHOWN = (
    ("parameters", "Parameters", "by the module that uses them first; tied ones count once"),
    ("flops", "FLOP of the forward", "by the module whose forward they are; a multiply-and-add is two"),
    ("peak_bytes", "Memory at the peak of a training step", "in bytes, by the module whose tensors they are"),
    ("saved_bytes", "Activations kept for the backward", "in bytes, by the module that made them"),
)


def inspection_page(inspection: Inspection) -> str:
    """The HTML page of an inspection; everything that comes from the architecture is escaped.

    Args:
        inspection: What is shown.

    Returns:
        One self-contained document.
    """
    return document.rendered(
        "inspection.html.j2",
        title=inspection.title,
        digits=str(inspection.dimension),
        facts=inspection.facts(),
        highlights=inspection.highlights(),
        totals=inspection.totals(),
        plots=_plots(inspection),
        table=_table(inspection),
    )


def write_inspection(inspection: Inspection, path: str | os.PathLike[str]) -> None:
    """Write an inspection's page.

    Args:
        inspection: What is shown.
        path: Where the page goes, whole or not at all.

    Raises:
        ModelspaceError: the place can't be written to.
    """
    document.write(inspection_page(inspection), path)


def _plots(inspection: Inspection) -> list[Plot]:
    return [
        Plot(
            quantity,
            f"{name}, {how}. Equal blocks in a row are one area; a click goes into one, and out again.",
            f"Treemap: {name}. Its numbers are in the table below.",
            treemap(inspection.tree, quantity),
            (),
        )
        for quantity, name, how in _SHOWN
        if getattr(inspection.tree, quantity)
    ]


def _table(inspection: Inspection) -> Table:
    names = [name for name in COLUMNS if name != "memory" or inspection.memory is not None]
    return Table("Every module call", headings(names), list(inspection.rows(names, _DEEP)), 2)
