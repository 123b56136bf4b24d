"""``modelspace landscape`` and ``modelspace curvature``: the ground that points stand on, and how it bends there."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from modelspace.cli import arguments, results, trained
from modelspace.cli.arguments import add_json
from modelspace.cli.parser import Verb, add_options, chosen
from modelspace.data import Data
from modelspace.engine import OPERATORS, evaluate
from modelspace.errors import ModelspaceError
from modelspace.export import write_table
from modelspace.fit import fit
from modelspace.geometry import (
    PLANES,
    Curvature,
    Landscape,
    curvature,
    goal_of_run,
    landscape,
    moments,
    optimizer_of_run,
)
from modelspace.progress import notice
from modelspace.report import page_of
from modelspace.runs import Run, ended_well
from modelspace.show import say

_USAGE = """%(prog)s RUN (--trust | --architecture TARGET) [options]
       %(prog)s TARGET --data DATA [--seeds N --lr V … --epochs N] [options]"""
_WHO = """\
RUN is what --out of a fit named; of explore's folder its fresh seeds; of several settings the best by the median
validation score is taken, --where says otherwise. Of a TARGET, --seeds members are trained first, as `modelspace fit`
would. --out FOLDER gets report.html, and the numbers as Parquet or npz; `modelspace report FOLDER --pictures figures`
draws PNG and SVG of them."""
_LANDSCAPE = f"""\
Draw the loss over the ground between trained points: a plane through three of them (--plane seeds), the principal
plane of all (principal), the line between two (line), or around each member along random directions that have each
filter's norm (random): the mean surface over members, and how much they differ; and the barriers between members.
{_WHO}"""
_CURVATURE = f"""\
Compute how the loss bends at each of many trained points: its largest eigenvalues with a bound of their error, the
trace with its standard error, the density of the spectrum, the layers' shares; beside them the eigenvalue from which
the optimizer is unstable, and whether flat points score better here.
{_WHO}"""
_LANDSCAPE_EXAMPLES = """\
examples:
  modelspace landscape runs/dummynet --trust
  modelspace landscape runs/dummynet --trust --plane random --members 8 --grid 51 --out runs/ground
  modelspace landscape nets.py:CNN --data digits --seeds 3 --lr 1e-2 --epochs 5 --json"""
_CURVATURE_EXAMPLES = """\
examples:
  modelspace curvature runs/dummynet --trust --members 16
  modelspace curvature runs/dummynet --trust --density --by-layer --out runs/bends
  modelspace curvature nets.py:CNN --data digits --seeds 8 --lr 1e-2,1e-1 --optimizer sgd --where all --json"""
_SURFACE = "reach refine statistics"
_SPECTRUM = "top density by_layer probes split"
_FEW = {"random": 8, "line": 2, "seeds": 3, "principal": 8}
_MOST = 16  # members whose curvature is computed where nobody says how many


def _configure_landscape(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``landscape``."""
    how = _configure(parser, "how many of them (random, principal: 8; line: 2; seeds: 3)")
    how.add_argument("--plane", choices=PLANES, default="seeds", help="through or around what (seeds)")
    how.add_argument("--grid", type=int, default=25, metavar="N", help="points along each axis (25)")
    how.add_argument("--score", metavar="NAME[,NAME…]", help="drawn beside the loss: accuracy")
    kinds = {"choices": ["kept", "recomputed"]}
    add_options(how, landscape, _SURFACE, statistics=kinds)


def _configure_curvature(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``curvature``."""
    how = _configure(parser, f"how many of them ({_MOST})")
    how.add_argument("--operator", choices=OPERATORS, default="hessian", help="of what (hessian)")
    add_options(how, curvature, _SPECTRUM, split={"choices": ["train", "validation", "test"]})
    how.add_argument("--subset", type=int, metavar="N", help="so many of the split's samples (default: all)")
    how.add_argument(
        "--moments", metavar="NAME", help="of a RUN, a record of points: at each of its moments (points)"
    )


def _configure(parser: argparse.ArgumentParser, members: str) -> Any:
    arguments.add_target(parser)
    arguments.add_data(parser, required=False)
    trained.add_who(parser)
    how = parser.add_argument_group("what is measured")
    how.add_argument("--members", type=int, metavar="N", help=members)
    arguments.add_fit(parser, without=("keep",))
    add_json(parser)
    return how


def _points(options: argparse.Namespace, most: int) -> tuple[Run, Data, np.ndarray, str]:
    """The run, its data, which of its kept members are measured, and how that is said."""
    data: Any
    if options.members is not None and options.members < 1:
        raise ModelspaceError(f"--members is at least 1; received {options.members}")
    folder = trained.folder_of(options.target)
    if folder is None and (Path(options.target).is_dir() or ":" not in options.target):
        folder = Path(options.target)  # what it lacks is said when it is opened
    if folder is not None:
        run = trained.opened(folder, options)
        options.data = options.data or run.data
        data = arguments.load_data(options)
    else:
        if options.data is None:
            raise ModelspaceError("members of a TARGET are trained first: give --data DATA")
        data = arguments.load_data(options)
        space = arguments.load_space(options, data)
        population = space.sample(options.seeds, **arguments.chosen_columns(options))
        population = population.to(arguments.load_device(options.device))
        run = fit(population, data, **{**arguments.fit_settings(options), "out": None, "keep": "all"})
    rows, said = trained.members(run, options.where)
    table = run.population.table
    if isinstance(rows, str):
        rows = run.population.with_columns(_row=np.arange(len(table))).query(rows).table["_row"]
    rows = np.arange(len(table)) if rows is None else np.asarray(rows)
    rows = rows[ended_well(run.status[run.kept])[rows]]
    count = min(options.members or most, len(rows))
    return run, data, rows[:count], f"{count} of {len(rows)} members{said}"


def _goal(run: Run, options: argparse.Namespace) -> dict[str, Any]:
    """What is measured: the loss or objective that is given, or what the run minimised."""
    given = arguments.fit_settings(options)
    found = {name: given[name] for name in ("loss", "objective")}
    return found if any(value is not None for value in found.values()) else goal_of_run(run)


def _landscape(options: argparse.Namespace) -> int:
    """Draw the ground."""
    folder = arguments.output_folder(options.out)
    run, data, rows, who = _points(options, _FEW[options.plane])
    given = {**chosen(options, _SURFACE), "metrics": options.score.split(",") if options.score else ()}
    grid = (options.grid,) if options.plane == "line" else options.grid
    given |= _goal(run, options)
    found = landscape(run.population[rows], data, plane=options.plane, grid=grid, out=folder, **given)
    notice(who)
    if folder:
        found.save(folder / "landscape.npz")
        write_table(found.frame, str(folder / "points.parquet"))
    return _done(found, folder, options, _plain_landscape(found), "landscape.npz, points.parquet")


def _curvature(options: argparse.Namespace) -> int:
    """Compute how it bends."""
    folder = arguments.output_folder(options.out)
    run, data, rows, who = _points(options, _MOST)
    given = {**chosen(options, _SPECTRUM), "operator": options.operator, "samples": options.subset}
    goal, members = _goal(run, options), run.population[rows]
    if options.moments is not None:
        members = moments(run, options.moments)
        members = members[members.table["member"].isin(run.kept[rows].tolist()).to_numpy()]
    found, lines = curvature(members, data, optimizer=optimizer_of_run(run), **given, **goal), []
    notice(who)
    if options.moments is None and len(rows) >= 4 and found.top.shape[1]:
        scores = evaluate(members, data, None, **goal)
        lines = [str(found.associated(scores[name])) for name in scores if name in ("accuracy", "loss")]
    if folder:
        write_table(found.table, str(folder / "curvature.parquet"))
    return _done(found, folder, options, _plain_curvature(found), "curvature.parquet", lines)


def _done(
    found: Landscape | Curvature,
    folder: Path | None,
    options: argparse.Namespace,
    plain: dict[str, Any],
    files: str,
    lines: Any = (),
) -> int:
    if folder:
        page_of(found).keep(folder)
    if options.json:
        results.print_json(plain)
    else:
        say("\n".join([repr(found), *lines]))
        if folder:
            say(f"written: {folder}/report.html, {files}")
    return 0


def _plain_landscape(found: Landscape) -> dict[str, Any]:
    barrier = found.barriers
    told = None if barrier is None else {"mean": barrier.mean, "sd": barrier.sd, "n": barrier.n}
    return {
        "plane": found.plane,
        "grid": dict(zip(found.axes, found.grid, strict=True)),
        "loss": found.mean(),
        "members": found.marks.to_dict("records"),
        "barrier": told,
        "holes": found.holes,
        "seconds": found.seconds,
    }


def _plain_curvature(found: Curvature) -> dict[str, Any]:
    columns = found.members.to_dict("records")
    members = [
        {**row, "member": k, "top": found.top[k], "trace": found.trace[k], "trace_se": found.trace_se[k]}
        for k, row in enumerate(columns)
    ]
    keys = {"operator": found.operator, "samples": found.samples, "loss": found.loss}
    return {"members": members, **keys, "finite": found.finite, "seconds": found.seconds}


VERBS = {
    "landscape": Verb(_USAGE, _LANDSCAPE, _LANDSCAPE_EXAMPLES, _configure_landscape, _landscape),
    "curvature": Verb(_USAGE, _CURVATURE, _CURVATURE_EXAMPLES, _configure_curvature, _curvature),
}
