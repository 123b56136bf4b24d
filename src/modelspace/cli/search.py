"""``modelspace search``: hyper-parameters under a budget, chosen on validation, confirmed on fresh seeds."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modelspace.cli import arguments, results
from modelspace.cli.parser import Verb, add_options, chosen
from modelspace.errors import ModelspaceError
from modelspace.explore import Interrupted
from modelspace.export import write_csv
from modelspace.progress import notice
from modelspace.report import page_of
from modelspace.runs import check_outputs
from modelspace.search import SAMPLERS, STOPS, Search, search
from modelspace.show import say

USAGE = "%(prog)s TARGET --data DATA --over NAME=VALUES [--over …] [options]"
DESCRIPTION = """\
Search hyper-parameters. Every setting is trained with several seeds, all settings of a batch at once; the best, and
those that its scores can't be told from, get more seeds; the winner is trained again with fresh seeds, tested, and
how much better it looked when it was chosen is printed: the winner's curse.

--over says what is chosen: a column of fit (lr, batch_size, optimizer, schedule, loss, momentum, …) or an argument
of the architecture.
  lr=1e-4:1e-1                          a range; logarithmic, as both ends are positive
  dropout=0:0.5  label_smoothing=0:0.2  a range on a linear axis; :linear and :log say it
  width=8:128                           whole numbers, since both ends are
  width=16,32,64  optimizer=sgd,adam    choices
  momentum=0.5:0.99:linear@optimizer=sgd  only where optimizer is sgd
Columns and --model arguments with several values, as of fit (--lr 1e-3,1e-2, --model.width 16,32), are choices too;
with one value they hold for all."""
EPILOG = """\
examples:
  modelspace search modelspace.examples:DummyNet --data digits-7x7 --over lr=1e-4:1e-1 --over optimizer=sgd,adam
  modelspace search nets.py:MLP --data digits --over lr=1e-4:1e-1 --over width=8:128 --over depth=1,2,3 \\
      --parameters 20000 --trials 128 --out runs/mlp
  modelspace search nets.py:MLP --data digits --over lr=1e-4:1e-1 --over width=16,32 --epochs 81 --stop halving
  modelspace search nets.py:MLP --data digits --over width=8:128 --over lr=1e-4:1e-1 --goals score,parameters"""
_NUMBERS = "trials batch alike race fresh_seeds search_seed parameters flops memory seconds reduction rungs"
_OPTIONS = f"{_NUMBERS} sampler goals stop"


def _configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    arguments.add_target(parser)
    arguments.add_data(parser, required=True)
    arguments.add_fit(parser)
    own = parser.add_argument_group("the search")
    own.add_argument(
        "--over",
        action="append",
        default=[],
        metavar="NAME=VALUES",
        help="what is chosen, and among what (see above); may be given more than once",
    )
    add_options(
        own,  # pyright: ignore[reportArgumentType]
        search,
        _OPTIONS,
        sampler={"choices": SAMPLERS},
        stop={"choices": STOPS},
        goals={"type": lambda text: text.split(","), "metavar": "GOAL[,GOAL]"},
    )
    own.add_argument("--optuna", metavar="URL", help="write the trials there as a study: sqlite:///search.db")
    parser.set_defaults(seeds=range(2), keep="scores")
    arguments.add_json(parser)


def _call(options: argparse.Namespace) -> int:
    """Search, print what was found, write the folder."""
    folder = arguments.output_folder(options.out)
    if folder:
        check_outputs(folder, next(iter(sorted(folder.glob("batch-*"))), folder / "batch"))
    device = arguments.load_device(options.device)
    data = arguments.load_data(options)
    space = arguments.load_space(options, data)
    if list(options.seeds) != list(range(len(options.seeds))):
        raise ModelspaceError(
            "--seeds is how many a setting has: 2; the fresh ones follow after all that were used"
        )
    over = {**arguments.chosen_columns(options), **_over(options.over)}
    given = {**arguments.fit_settings(options), **chosen(options, _OPTIONS), "seeds": len(options.seeds)}
    try:
        found = search(space, data, over=over, device=device, **given)
    except Interrupted as interrupt:
        done = int((interrupt.run.status != "unfinished").sum())
        again = "the same command goes on from there" if folder else "--out would have kept what was finished"
        notice(
            f"interrupted while {len(interrupt.run.members)} members were trained, {done} of them done: {again}"
        )
        return 130
    if options.optuna:
        found.to_optuna(options.optuna, found.title)
    summary = _summary(found, folder)
    if folder:
        results.write_folder(folder, summary, *_members(found))
        write_csv(found.table, folder / "trials.csv", index_label="trial")
        page_of(found, command=arguments.command_line()).keep(folder)
    if options.json:
        results.print_json(summary)
    else:
        say(repr(found))
        if folder:
            say(f"written: {folder}/report.html, trials.csv, summary.json, members.csv, points.safetensors")
    return 130 if found.interrupted else 0


def _over(given: list[str]) -> dict[str, str]:
    """What --over says, by name; what it depends on stays with the name: ``momentum@optimizer=sgd``."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, values = text.partition("=")
        if not (name and equals and values):
            raise ModelspaceError(f"--over {text}: write NAME=VALUES, like lr=1e-4:1e-1 or width=16,32")
        values, at, condition = values.partition("@")
        key = name.replace("-", "_") + at + condition
        if key in found:
            raise ModelspaceError(f"--over {key}: given more than once; several values are one parameter")
        found[key] = values
    return found


def _members(found: Search) -> tuple[pd.DataFrame, Any]:
    """All members, those that were trained to choose and the fresh ones; and the points of the fresh."""
    before = found.members.assign(phase="search")
    table = pd.concat([before, found.fresh.table.assign(phase="fresh")], ignore_index=True)
    kept = np.asarray(found.fresh.kept) + len(before)
    return table, results.named(found.fresh.population, kept, len(table))


def _summary(found: Search, folder: Path | None) -> dict[str, Any]:
    d = found.distribution
    names = ("mean", "sd", "min", "q1", "median", "q3", "max", "n", "diverged")
    return {
        "run": str(folder) if folder else None,
        "best": found.best,
        "metric": found.metric,
        "validation": found.validation,
        "test": {name: getattr(d, name) for name in names},
        "curse": found.curse,
        "trials": len(found.trials),
        "refused": found.refused,
        "contenders": [found.trials[i].setting for i in found.contenders],
        "members": len(found.members) + len(found.fresh.members),
        "interrupted": found.interrupted,
        "seconds": found.seconds,
    }


VERBS = {"search": Verb(USAGE, DESCRIPTION, EPILOG, _configure, _call)}
