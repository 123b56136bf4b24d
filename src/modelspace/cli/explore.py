"""``modelspace explore``: the whole journey through one space."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modelspace.cli import arguments, results, values
from modelspace.cli.fit import finish
from modelspace.cli.parser import Verb
from modelspace.explore import Exploration, Interrupted, explore
from modelspace.population import joined
from modelspace.progress import notice
from modelspace.report import choice_remarks, record_of_exploration, write_record
from modelspace.runs import check_outputs
from modelspace.show import formula, number, say, setting_text

USAGE = "%(prog)s [TARGET --data DATA] [--COLUMN V …] [options]"
DESCRIPTION = """\
The whole journey through one space:
  1. measure it: n, layers, cost, and what the doctor finds (modelspace doctor has the details);
  2. fit seeds × columns as one program, and choose the columns on the *validation* split;
  3. fit fresh seeds at that choice, and report the distribution of their *test* score;
  4. compare two of them, as points and as functions;
  5. map the ground: the loss over the plane through three of them, and how it bends at sixteen;
  6. write a self-contained report, the table of all members and their points.

Without TARGET and --data it is shown on the built-in example: a network of 2,512 parameters and real digits."""
EPILOG = """\
examples:
  modelspace explore
  modelspace explore modelspace.examples:DummyNet --data digits-7x7 --lr 1e-4:1e-1:12 --out runs/dummynet
  modelspace explore nets.py:CNN --data digits --lr 1e-3,1e-2 --weight-decay 0,1e-4 --optimizer adamw"""
# What is explored where nothing is given; the columns only where there are none, the folder only where there is none.
_EXAMPLE = "modelspace.examples:DummyNet", "digits-7x7"
_EXAMPLE_LR = "1e-4:1e-1:12"
_EXAMPLE_OUT = "runs/dummynet"


def _configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    arguments.add_target(parser, number="?")
    arguments.add_data(parser, required=False)
    arguments.add_fit(parser)
    arguments.add_export(parser)
    parser.add_argument(
        "--fresh-seeds", type=int, default=64, metavar="N", help="new seeds fitted at the choice (64)"
    )
    parser.add_argument("--no-ground", action="store_true", help="leave out the plane and the curvature")
    arguments.add_json(parser)


def _call(options: argparse.Namespace) -> int:
    """Explore, print the summary, write the folder and what is exported."""
    _complete(options)
    exported = results.chosen_exports(options)
    folder = arguments.output_folder(options.out)
    if folder:
        check_outputs(folder, folder / "sweep")
    device = arguments.load_device(options.device)
    data = arguments.load_data(options)
    space = arguments.load_space(options, data)
    try:
        found = explore(
            space,
            data,
            seeds=options.seeds,
            columns=arguments.chosen_columns(options),
            fresh_seeds=options.fresh_seeds,
            ground=not options.no_ground,
            device=device,
            **arguments.fit_settings(options),
        )
    except Interrupted as interrupt:
        notice("interrupted: nothing was chosen; what follows is the run until then")
        return finish(interrupt.run, data, options.out, exported, as_json=options.json)
    summary = _summary(found, folder)
    shown = folder or not options.json
    record = record_of_exploration(found, command=arguments.command_line()) if shown else None
    if folder and record:
        results.write_folder(folder, {**summary, "report": record}, *_members(found))
        write_record(record, folder / "report.html")
    if options.json or record is None:
        results.print_json(summary)
    else:
        say("\n".join(_lines(found, folder, choice_remarks(record))))
    lines = results.write_exports(exported, {"sweep": found.sweep, "fresh": found.fresh})
    if lines and not options.json:
        say("\n".join(lines))
    return 130 if found.interrupted else 0


def _complete(options: argparse.Namespace) -> None:
    """Take the built-in example where neither TARGET nor --data is given, and say what stands for it."""
    given = {"TARGET": options.target, "--data": options.data}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == 1:
        options.parser.error(f"the following arguments are required: {missing[0]}")
    if not missing:
        return
    options.target, options.data = _EXAMPLE
    words = [options.target, "--data", options.data]
    if not arguments.chosen_columns(options):
        options.lr = values.column(_EXAMPLE_LR)
        words += ["--lr", _EXAMPLE_LR]
    if options.out is None:
        options.out = _EXAMPLE_OUT
        words += ["--out", _EXAMPLE_OUT]
    notice(f"no TARGET is given, so this is the built-in example: modelspace explore {' '.join(words)}")


def _members(found: Exploration) -> tuple[pd.DataFrame, Any]:
    """All members of both fits: their table, and their points."""
    sweep = found.sweep.table.assign(phase="sweep")
    fresh = found.fresh.table.assign(phase="fresh")
    for name in found.test.columns.difference(fresh.columns):
        fresh[f"test_{name.removeprefix('test_')}"] = found.test[name]
    table = pd.concat([sweep, fresh], ignore_index=True)
    kept = np.concatenate([found.sweep.kept, len(sweep) + found.fresh.kept])
    about = table.reindex(columns=pd.Index(["seed", *found.chosen, "phase"])).iloc[kept]
    points = joined([found.sweep.population, found.fresh.population], about)
    return table, results.named(points, kept, len(table))


def _summary(found: Exploration, folder: Path | None) -> dict[str, Any]:
    total = found.sweep.steps.sum() + found.fresh.steps.sum()
    seconds = found.sweep.seconds + found.fresh.seconds
    d = found.distribution
    distribution = {
        k: getattr(d, k) for k in ("mean", "sd", "min", "q1", "median", "q3", "max", "n", "diverged")
    }
    return {
        "run": str(folder) if folder else None,
        "dimension": found.space.dimension,
        **results.run_summary(found.sweep),
        "members": len(found.sweep.members) + len(found.fresh.members),
        "diverged": len(found.sweep.diverged) + len(found.fresh.diverged),
        "interrupted": found.interrupted,
        "seconds": seconds,
        "member_steps_per_second": float(total) / seconds if seconds else 0.0,
        "chosen": found.chosen,
        f"test_{found.metric}": distribution,
        "comparison": found.comparison,
        "findings": found.diagnosis.findings if found.diagnosis else None,
    }


def _lines(found: Exploration, folder: Path | None, remarks: Sequence[str]) -> list[str]:
    """The summary for a terminal, about 30 lines."""
    space, data, d = found.space, found.data, found.distribution
    lines = [f"{space.title}   {formula(space.dimension)}"]
    lines += [f"  {name:<14}{value}" for name, value in space.facts()]
    parts = ", ".join(f"{len(split)} {name}" for name, split in data.splits.items())
    lines.append(f"  {'data':<14}{data.name}: {parts}")
    if found.diagnosis is not None:
        lines.append(f"  {'doctor':<14}{found.diagnosis.counted}")
    lines.append("")
    sweep = found.sweep
    lines.append(
        f"fit {len(sweep.members)} members in {sweep.seconds:.1f} s, "
        f"{sweep.member_steps_per_second:,.0f} member-steps/s"
    )
    lines.append(f"  {'plan':<14}{sweep.plan}")
    if sweep.memory:
        lines.append(f"  {'memory':<14}{str(sweep.memory).removeprefix('memory: ')}")
    lines += [*_response_lines(found), *(f"  {remark}" for remark in remarks), ""]
    fresh = found.fresh
    at = setting_text(found.chosen)
    lines.append(
        f"{len(fresh.members)} fresh seeds{' at ' + at if at else ''}, {found.metric} on the test split"
    )
    lines += [
        f"  {'mean ± SD':<14}{_four(d.mean)} ± {_four(d.sd)}   ({d.n} members, {d.diverged} diverged)",
        f"  {'quartiles':<14}{_four(d.q1)}  {_four(d.median)}  {_four(d.q3)}",
        f"  {'range':<14}{_four(d.min)} to {_four(d.max)}",
        "",
    ]
    if found.comparison:
        a, b = found.comparison.names
        lines.append(f"two of them, {a} and {b}")
        lines += [f"  {name:<14}{value}" for name, value in found.comparison.rows()]
    lines += _ground_lines(found)
    if found.interrupted:
        lines += ["", "interrupted: what is above is what was finished until then"]
    if folder:
        lines += ["", f"report        {folder}/report.html"]
        lines.append(f"also          {folder}/summary.json, members.csv, points.safetensors")
    return lines


def _ground_lines(found: Exploration) -> list[str]:
    """The plane and the curvature, a line each."""
    lines, plane, bends = [], found.ground, found.bends
    if plane is not None and plane.barriers is not None:
        b = plane.barriers
        said = (
            f"loss {number(plane.mean().min())} to {number(plane.mean().max())} on the plane of three seeds"
        )
        lines.append(
            f"  {'ground':<14}{said}; barriers {number(b.mean, 3)} ± {number(b.sd, 3)} (SD of {b.n} lines)"
        )
    if bends is not None and np.isfinite(bends.top).any():
        top, trace = bends.top[:, 0], bends.trace
        said = f"largest eigenvalue {number(float(np.nanmean(top)), 3)} ± {number(float(np.nanstd(top, ddof=1)), 3)}"
        said += (
            f", trace {number(float(np.nanmean(trace)), 3)} ± {number(float(np.nanstd(trace, ddof=1)), 3)}"
        )
        lines.append(f"  {'curvature':<14}{said} (SD over {len(top)} seeds, {bends.samples} samples)")
    return lines


def _four(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _response_lines(found: Exploration) -> list[str]:
    """The validation score at each setting, the chosen one marked."""
    response, names = found.response, list(found.chosen)
    if not names:
        return []
    shown = response
    if len(response) > 12:
        order = response["median"].rank(method="first", ascending=found.metric == "loss")
        shown = response[order <= 12]
    heading = f"validation {found.metric}"
    lines = [f"  {'  '.join(name.rjust(9) for name in names)}   {heading}: quartiles over seeds"]
    for row in shown.to_dict("records"):  # pyright: ignore[reportCallIssue]
        chosen = all(row[name] == found.chosen[name] for name in names)
        cells = "  ".join(
            (f"{row[n]:.4g}" if isinstance(row[n], float) else str(row[n])).rjust(9) for n in names
        )
        scores = "  ".join(
            f"{row[q]:.4f}" if np.isfinite(row[q]) else "   –  " for q in ("q1", "median", "q3")
        )
        failed = f"   {row['diverged']} of {row['seeds']} diverged" if row["diverged"] else ""
        lines.append(f"  {cells}   {scores}{'   ← chosen' if chosen else ''}{failed}")
    if len(shown) < len(response):
        lines.append(f"  (the best {len(shown)} of {len(response)} settings; all are in the report)")
    return lines


VERBS = {"explore": Verb(USAGE, DESCRIPTION, EPILOG, _configure, _call)}
