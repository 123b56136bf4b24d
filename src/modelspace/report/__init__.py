"""Self-contained HTML pages, figures and pictures of what was found.

``_record`` holds what is shown of an exploration or a run, ``_extract`` takes it from there, ``_figures`` draws,
``_words`` says it in plain sentences, ``_page`` lays out. Every other record has a ``Page`` of sections, made by a
module of its own, and written by ``_document``.
"""

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelspace.report._extract import record_of_exploration, record_of_run
from modelspace.report._record import ReportRecord
from modelspace.report._words import choice_remarks

if TYPE_CHECKING:
    from modelspace.report._curves import curves_figure, curves_of, plot_family, scaling_figure
    from modelspace.report._document import Page, write_figure, write_pictures
    from modelspace.report._page import exploration_plots, write_exploration, write_record, write_run
    from modelspace.report._search import plot_search

__all__ = [
    "Page",
    "ReportRecord",
    "choice_remarks",
    "curves_figure",
    "curves_of",
    "exploration_plots",
    "page_of",
    "plot_family",
    "plot_search",
    "record_of_exploration",
    "record_of_run",
    "scaling_figure",
    "write_exploration",
    "write_figure",
    "write_page",
    "write_pictures",
    "write_record",
    "write_run",
]
# The module that makes the page of a record, by the record's class; its function is ``KIND_page``.
_PAGES = {"Inspection": "_inspection", "Verdict": "_verdict", "Search": "_search"}
_PAGES |= dict.fromkeys(("Landscape", "Barriers", "Trajectory", "Connection", "Curvature"), "_geometry")
_HOMES = {"Page": "_document", "plot_search": "_search"}
_HOMES |= dict.fromkeys(("write_figure", "write_pictures"), "_document")
_HOMES |= dict.fromkeys(("exploration_plots", "write_exploration", "write_record", "write_run"), "_page")


def page_of(record: Any, *, command: str | None = None) -> "Page":
    """Return the page of a record.

    Args:
        record: An ``Inspection``, a ``Verdict``, a ``Search``; a ``Landscape``, ``Barriers``, a ``Trajectory``, a
            ``Connection``, a ``Curvature``.
        command: The command line to print for a reader who wants to do it again.
    """
    name = type(record).__name__
    made = getattr(import_module(f"{__name__}.{_PAGES[name]}"), f"{name.lower()}_page")
    return made(record) if command is None else made(record, command=command)


def write_page(
    record: Any,
    path: str | os.PathLike[str],
    *,
    command: str | None = None,
    pictures: str | os.PathLike[str] | None = None,
) -> None:
    """Write the page of a record: one HTML file that needs no network and reads without scripts.

    Args:
        record: As of ``page_of``.
        path: Where the page goes, whole or not at all.
        command: The command line to print for a reader who wants to do it again.
        pictures: A folder for its figures, as PNG and as SVG; none are written where None.

    Raises:
        ModelspaceError: a place can't be written to.
    """
    page = page_of(record, command=command)
    page.write(path)
    if pictures is not None:
        import_module(f"{__name__}._document").write_pictures(page.plots, Path(pictures))


def __getattr__(name: str) -> Any:
    # Plotly takes longer to import than all the rest of this library: what draws is imported when it is asked for.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, '_curves')}"), name)
