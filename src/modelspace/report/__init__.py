"""One self-contained HTML page for an exploration or a run, drawn from a frozen record.

``record`` holds what is shown, ``extract`` takes it from an exploration or a run, ``figures`` draws,
``words`` says it in plain sentences, ``page`` lays out.
"""

from modelspace.report.extract import record_of_exploration, record_of_run
from modelspace.report.losses_curves import curves_figure
from modelspace.report.losses_files import write_curves_html, write_curves_png
from modelspace.report.record import ReportRecord
from modelspace.report.scaling import curves_of, plot_family, scaling_figure
from modelspace.report.write import write_exploration, write_record, write_run

__all__ = [
    "ReportRecord",
    "curves_figure",
    "curves_of",
    "plot_family",
    "record_of_exploration",
    "record_of_run",
    "scaling_figure",
    "write_curves_html",
    "write_curves_png",
    "write_exploration",
    "write_record",
    "write_run",
]
