"""``modelspace fit``: train a population and keep it."""

import argparse
from collections.abc import Sequence

from modelspace.cli import arguments, exports, results
from modelspace.data import Data
from modelspace.fit import fit
from modelspace.report import record_of_run, write_record
from modelspace.runs import Run, check_outputs
from modelspace.show import say

USAGE = "%(prog)s TARGET --data DATA [--COLUMN V …] [options]"
DESCRIPTION = """\
Train every combination of seeds and columns as one program, and keep curves, scores and points. With --out the
folder gets report.html, summary.json, members.csv and points.safetensors (row k is member k), and the run
itself is written there as it goes: killed, the same command continues it; with more --seeds, values of a
column or --epochs it trains what is missing."""
EPILOG = """\
examples:
  modelspace fit examples/dummynet.py:DummyNet --data digits-7x7 --seeds 256 --lr 1e-2 --out runs/seeds
  modelspace fit nets.py:MLP --model.width 64 --data mnist1d --optimizer sgd --lr 0.01,0.1 --momentum 0,0.9
  modelspace fit examples/dummynet.py:DummyNet --data digits-7x7 --lr 1e-3,1e-2 --export tensorboard=runs/tb"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    arguments.add_target(parser)
    arguments.add_data(parser, required=True)
    arguments.add_fit(parser)
    exports.add_export(parser)
    arguments.add_json(parser)


def call(options: argparse.Namespace) -> int:
    """Fit, print the summary, write the folder and what is exported."""
    exported = exports.chosen(options)
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
        "dimension": run.space.dimension,
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
        columns = [c for c in run.table.columns if c not in ("status", "steps")]
        memory = f"{run.memory}\n" if run.memory else ""
        say(f"{run!r}\n{memory}{run.table[columns].describe().to_string()}")
        if folder:
            say(f"written: {folder}/report.html, summary.json, members.csv, points.safetensors")
    lines = exports.write(exported, {None: run})  # last: what is above stands, whatever another tool says
    if lines and not as_json:
        say("\n".join(lines))
    return 130 if run.interrupted else 0
