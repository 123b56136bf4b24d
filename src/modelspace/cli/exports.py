"""``--export TO=PLACE``: held against what is there before anything is trained, written after it."""

import argparse
from collections.abc import Mapping, Sequence

from modelspace.errors import ModelspaceError
from modelspace.export import TARGETS, check, export
from modelspace.runs import Run


def add_export(parser: argparse.ArgumentParser) -> None:
    """--export."""
    parser.add_argument(
        "--export",
        action="append",
        default=[],
        metavar="TO=PLACE",
        help=f"write the results for another tool too: {', '.join(TARGETS)} (csv=members.csv, "
        "tensorboard=runs/tb, mlflow=sqlite:///runs.db, wandb=my-project); may be given more than once",
    )


def chosen(options: argparse.Namespace) -> list[tuple[str, str]]:
    """The exports that were asked for: target and place.

    Raises:
        ModelspaceError: one of them could not be made.
    """
    found = []
    for text in options.export:
        to, equals, place = text.partition("=")
        if not equals:
            raise ModelspaceError(f"--export {text}: write TO=PLACE, where TO is one of {', '.join(TARGETS)}")
        check(to, place)
        found.append((to, place))
    return found


def write(exports: Sequence[tuple[str, str]], runs: Mapping[str | None, Run]) -> list[str]:
    """Make the exports; one that fails does not keep the others from being made.

    Args:
        exports: Targets and places.
        runs: By what each is called beside the others; None where there is one.

    Returns:
        A line for each export, for a reader.

    Raises:
        ModelspaceError: some could not be made.
    """
    problems = []
    for to, place in exports:
        try:
            for part, run in runs.items():
                export(run, to, place, part=part)
        except ModelspaceError as error:
            problems.append(str(error))
    if problems:
        raise ModelspaceError("; ".join(problems))
    return [f"exported: {to} to {place}" for to, place in exports]
