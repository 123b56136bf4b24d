"""Pages on disk."""

import os

from modelspace.data import Data
from modelspace.explore import Exploration
from modelspace.report.extract import record_of_exploration, record_of_run
from modelspace.report.record import ReportRecord
from modelspace.runs import Run


def write_record(record: ReportRecord, path: str | os.PathLike[str]) -> None:
    """Write a record's page: one HTML file that needs no network and reads without scripts.

    Args:
        record: What is shown.
        path: Where the page goes, whole or not at all.

    Raises:
        ModelspaceError: the place can't be written to.
    """
    # Here, because plotly takes longer to import than all the rest of this library.
    from modelspace.report import document
    from modelspace.report.page import page

    document.write(page(record), path)


def write_exploration(
    exploration: Exploration, path: str | os.PathLike[str], *, command: str | None = None
) -> None:
    """Write an exploration's page.

    Args:
        exploration: What ``explore`` gave.
        path: Where the page goes, whole or not at all.
        command: The command line to print for a reader who wants to do it again.

    Raises:
        ModelspaceError: the place can't be written to.
    """
    write_record(record_of_exploration(exploration, command=command), path)


def write_run(
    run: Run, path: str | os.PathLike[str], *, command: str | None = None, data: Data | None = None
) -> None:
    """Write a run's page.

    Args:
        run: What ``fit`` gave.
        path: Where the page goes, whole or not at all.
        command: The command line to print for a reader who wants to do it again.
        data: What it was fitted on: where the loss is a column, losses are then compared on its test split.

    Raises:
        ModelspaceError: the place can't be written to.
    """
    write_record(record_of_run(run, command=command, data=data), path)
