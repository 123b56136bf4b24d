"""``modelspace fit``: train a population and keep it; ``modelspace report``: draw a run's page again."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from modelspace.cli import arguments, results
from modelspace.cli.arguments import add_json
from modelspace.cli.parser import Verb
from modelspace.data import Data
from modelspace.errors import ModelspaceError
from modelspace.fit import fit
from modelspace.report import (
    Page,
    ReportRecord,
    exploration_plots,
    record_of_run,
    write_pictures,
    write_record,
)
from modelspace.runs import Run, check_outputs
from modelspace.show import say

_SETTINGS = 16  # shown
_FIT_USAGE = "%(prog)s TARGET --data DATA [--COLUMN V …] [options]"
_FIT_DESCRIPTION = """\
Train every combination of seeds and columns as one program, and keep curves, scores and points. With --out the
folder gets report.html, summary.json, members.csv and points.safetensors (row k is member k), and the run
itself is written there as it goes: killed, the same command continues it; with more --seeds, values of a
column or --epochs it trains what is missing."""
_FIT_EPILOG = """\
examples:
  modelspace fit modelspace.examples:DummyNet --data digits-7x7 --seeds 256 --lr 1e-2 --out runs/seeds
  modelspace fit nets.py:MLP --model.width 64 --data mnist1d --optimizer sgd --lr 0.01,0.1 --momentum 0,0.9
  modelspace fit modelspace.examples:DummyNet --data digits-7x7 --lr 1e-3,1e-2 --export tensorboard=runs/tb
  modelspace fit nets.py:MLP --model.width 16,32 --model.dropout 0,0.3 --data digits --lr 1e-3
  modelspace fit nets.py:MLP --data digits --fold 5 --optimizer sgd,adam --batch-size 16,64 --lr 1e-3,1e-2
  modelspace fit shops.py:Forecaster --data shops.py:series --task 10000 --seeds 1 --loss mse --steps 500
  modelspace fit nets.py:VAE --data digits --objective nets.py:elbo --column beta=0.1,1,4 --lr 1e-3"""


def _configure_fit(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``fit``."""
    arguments.add_target(parser)
    arguments.add_data(parser, required=True)
    arguments.add_fit(parser)
    arguments.add_export(parser)
    arguments.add_json(parser)


def _fit(options: argparse.Namespace) -> int:
    """Fit, print the summary, write the folder and what is exported."""
    exported = results.chosen_exports(options)
    folder = arguments.output_folder(options.out)
    if folder:
        check_outputs(folder, folder)
    device = arguments.load_device(options.device)
    data = arguments.load_data(options)
    space = arguments.load_space(options, data)
    population = space.sample(options.seeds, **arguments.chosen_columns(options)).to(device)
    run = fit(population, data, **arguments.fit_settings(options))
    return finish(run, data, options.out, exported, as_json=options.json)


def finish(
    run: Run, data: Data | None, out: str | None, exported: Sequence[tuple[str, str]], *, as_json: bool
) -> int:
    """Write a run's folder, if there is to be one, print its summary, export it; the exit status."""
    folder = arguments.output_folder(out)
    summary = {
        "run": str(folder) if folder else None,
        "dimension": results.dimension(run),
        **results.run_summary(run),
    }
    if folder:
        record = record_of_run(run, command=arguments.command_line(), data=data)
        points = results.named(run.population, run.kept, len(run.members))
        results.write_folder(folder, {**summary, "report": record}, run.table, points)
        write_record(record, folder / "report.html")
    if as_json:
        results.print_json(summary)
    else:
        memory = f"{run.memory}\n" if run.memory else ""
        table, judge = run.summary, run.monitor
        better = table.sort_values("median", ascending=judge not in run.higher_is_better, kind="stable")
        more = (
            f" (the best {_SETTINGS} of {len(table)}; all are in the report)"
            if len(table) > _SETTINGS
            else ""
        )
        shown = better.head(_SETTINGS) if more else table
        heading = f"{judge.replace('_', ' ')} by setting: over its members{more}"
        say(
            f"{run!r}\n{memory}{heading}\n{shown.to_string(index=False, float_format='{:.4g}'.format, na_rep='–')}"
        )
        if folder:
            say(f"written: {folder}/report.html, summary.json, members.csv, points.safetensors")
    lines = results.write_exports(
        exported, {None: run}
    )  # last: what is above stands, whatever another tool says
    if lines and not as_json:
        say("\n".join(lines))
    return 130 if run.interrupted else 0


_REPORT_USAGE = "%(prog)s FOLDER [options]"
_REPORT_DESCRIPTION = """\
Draw the page of something finished again, from what `explore`, `fit`, `versus`, `search`, `landscape` or
`curvature` left in --out FOLDER. The page is one self-contained file: it opens offline, reads without scripts, and
prints. Its figures are written for a paper by --pictures: PNG of 300 dots an inch, and SVG whose text is text."""
_REPORT_EPILOG = """\
examples:
  modelspace report runs/dummynet
  modelspace report runs/dummynet --pictures figures"""


def _configure_report(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``report``."""
    parser.add_argument(
        "folder", metavar="FOLDER", help="what --out named: it holds summary.json or page.json"
    )
    parser.add_argument("--to", metavar="FILE", help="where the page goes (FOLDER/report.html)")
    parser.add_argument("--pictures", metavar="FOLDER", help="write its figures there, as PNG and as SVG")
    add_json(parser)


def _report(options: argparse.Namespace) -> int:
    """Draw the page."""
    folder, pictures = Path(options.folder), arguments.output_folder(options.pictures)
    path = Path(options.to) if options.to else folder / "report.html"
    if (folder / "page.json").is_file():
        page = Page.kept(folder)
        page.write(path)
        plots = page.plots
    else:
        try:
            record = ReportRecord.from_plain(results.read_summary(folder)["report"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ModelspaceError(
                f"{folder / 'summary.json'} is not a run's summary: {type(error).__name__}: {error}"
            ) from error
        write_record(record, path)
        plots = exploration_plots(record) if pictures else []
    made = [] if pictures is None else write_pictures(plots, pictures)
    if options.json:
        say(json.dumps({"report": str(path), "pictures": list(map(str, made))}))
    else:
        say("\n".join(map(str, [path, *made])))
    return 0


VERBS = {
    "fit": Verb(_FIT_USAGE, _FIT_DESCRIPTION, _FIT_EPILOG, _configure_fit, _fit),
    "report": Verb(_REPORT_USAGE, _REPORT_DESCRIPTION, _REPORT_EPILOG, _configure_report, _report),
}
