"""``modelspace report``: draw a run's page again from its folder."""

import argparse
import json
from pathlib import Path

from modelspace.cli import results
from modelspace.cli.arguments import add_json
from modelspace.errors import ModelspaceError
from modelspace.report import ReportRecord, write_record
from modelspace.show import say

USAGE = "%(prog)s FOLDER [options]"
DESCRIPTION = """\
Draw the page of a finished run again, from the summary.json that `explore` or `fit --out` left. The page is one
self-contained file: it opens offline, reads without scripts, and prints."""
EPILOG = """\
example:
  modelspace report runs/dummynet"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("folder", metavar="FOLDER", help="a run's folder, which holds summary.json")
    parser.add_argument("--to", metavar="FILE", help="where the page goes (FOLDER/report.html)")
    add_json(parser)


def call(options: argparse.Namespace) -> int:
    """Draw the page."""
    folder = Path(options.folder)
    try:
        record = ReportRecord.from_plain(results.read_summary(folder)["report"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelspaceError(
            f"{folder / 'summary.json'} is not a run's summary: {type(error).__name__}: {error}"
        ) from error
    path = Path(options.to) if options.to else folder / "report.html"
    write_record(record, path)
    say(json.dumps({"report": str(path)}) if options.json else str(path))
    return 0
