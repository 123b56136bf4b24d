"""One self-contained HTML page for an exploration, a run, an inspection or a verdict, and figures of curves.

``_record`` holds what is shown of an exploration or a run, ``_extract`` takes it from there, ``_figures`` draws,
``_words`` says it in plain sentences, ``_page`` lays out.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from modelspace.report._extract import record_of_exploration, record_of_run
from modelspace.report._record import ReportRecord
from modelspace.report._words import choice_remarks

if TYPE_CHECKING:
    from modelspace.report._curves import (
        curves_figure,
        curves_of,
        plot_family,
        scaling_figure,
        write_curves_html,
        write_curves_png,
    )
    from modelspace.report._inspection import write_inspection
    from modelspace.report._page import write_exploration, write_record, write_run
    from modelspace.report._search import plot_search, write_search
    from modelspace.report._verdict import write_verdict

__all__ = [
    "ReportRecord",
    "choice_remarks",
    "curves_figure",
    "curves_of",
    "plot_family",
    "plot_search",
    "record_of_exploration",
    "record_of_run",
    "scaling_figure",
    "write_curves_html",
    "write_curves_png",
    "write_exploration",
    "write_inspection",
    "write_record",
    "write_run",
    "write_search",
    "write_verdict",
]


def __getattr__(name: str) -> Any:
    # Plotly takes longer to import than all the rest of this library: what draws is imported when it is asked for.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    apart = {"write_inspection": "_inspection", "write_verdict": "_verdict"}
    apart |= {"plot_search": "_search", "write_search": "_search"}
    home = apart.get(name, "_page" if name.startswith("write_") else "_curves")
    home = "_curves" if "curves" in name else home
    return getattr(import_module(f"{__name__}.{home}"), name)
