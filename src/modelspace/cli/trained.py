"""Members of a run in a folder, for verbs that compute with them: which, and where their architecture is."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modelspace.cli import accounts
from modelspace.errors import ModelspaceError
from modelspace.loading import load_architecture
from modelspace.runs import Run, best_of, is_run, open_run
from modelspace.show import setting_text
from modelspace.space import ModelSpace

_APART = ("task", "fold", "objective")  # columns whose members were trained for different things


def add_who(parser: argparse.ArgumentParser) -> None:
    """--trust, --architecture and --where."""
    who = parser.add_argument_group("members of a run")
    who.add_argument(
        "--trust", action="store_true", help="execute the architecture's file that the run names"
    )
    who.add_argument(
        "--architecture", metavar="TARGET", help="where the architecture is now; the file is executed"
    )
    who.add_argument("--where", metavar="QUERY", help="which, by the run's table: 'lr < 0.01'; or all")


def folder_of(text: str) -> Path | None:
    """The run's folder that a text names, of ``explore``'s its fresh seeds; None where it names none."""
    return next((place for place in (Path(text), Path(text) / "fresh") if is_run(place)), None)


def opened(folder: Path, options: argparse.Namespace) -> Run:
    """The run with its architecture, which is executed as it is asked for."""
    if options.architecture is None:
        if not options.trust:
            target = accounts.opened(folder).about["target"]
            raise ModelspaceError(
                f"points without their architecture are numbers: give --trust to execute {target or 'its file'}, "
                "which the run names, or --architecture TARGET"
            )
        accounts.opened(folder)
        return open_run(folder, trust=True)
    about = accounts.opened(folder).about
    space = ModelSpace(
        load_architecture(options.architecture),
        input_shape=about["input_shape"],
        input_dtype=getattr(torch, about["input_type"]),
        dtype=getattr(torch, about["spec"]["type"].removeprefix("torch.")),
        **about["hyperparameters"],
    )
    return open_run(folder, space)


def members(run: Run, query: str | None) -> tuple[Any, str]:
    """Which of the kept members are asked, and how that is said."""
    if query is not None:
        return (None, "") if query == "all" else (query, f" with {query}")
    known = {c: set(run.members[c].tolist()) for c in _APART if c in run.members}
    apart = next((name for name, values in known.items() if len(values) > 1), None)
    if apart is not None:
        raise ModelspaceError(
            f"members of several values of {apart} were trained for different things: choose those of one, "
            f"--where '{apart} == {next(iter(known[apart]))!r}'"
        )
    settings, responses = run.responses()
    if len(settings) == 1:
        return None, ""
    best = best_of(responses, higher_is_better=run.monitor in run.higher_is_better)
    if best is None:
        raise ModelspaceError("no member of this run finished with a score: choose some by --where")
    place = {int(k): i for i, k in enumerate(run.kept)}
    rows = [place[int(k)] for k in settings[best].rows if int(k) in place]
    if not rows:
        raise ModelspaceError("the members of the best setting were not kept: choose others by --where")
    return np.array(
        rows
    ), f" of the best of {len(settings)} settings ({setting_text(settings[best].columns)})"
