"""What ``fit`` and ``explore`` leave behind: the summary's keys, the files of a run's folder, its exports."""

import argparse
import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd

from modelspace.atomic import remove_remains, whole_file
from modelspace.errors import ModelspaceError, first_line
from modelspace.export import TARGETS, check, export, write_csv
from modelspace.plain import parsed, plain
from modelspace.population import Population, save
from modelspace.progress import notice
from modelspace.runs import OUTPUTS, Run

# A summary's own checksum is its last entry, over the text that stands before it.
_END = "\n}"
_SEAL = ',\n "checksum": "%s"' + _END
_digest = partial(hashlib.blake2b, digest_size=16)


class _Summary(TypedDict):
    """What of a summary is read again."""

    report: dict[str, Any]
    files: dict[str, str]
    checksum: str


def run_summary(run: Run) -> dict[str, Any]:
    """The keys that every fit shares."""
    return {
        "members": len(run.members),
        "diverged": len(run.diverged),
        "interrupted": run.interrupted,
        "plan": {
            "lowering": run.plan.lowering,
            "shard": run.plan.shard,
            "compiled": run.plan.compiled,
            "threads": run.plan.threads,
            "workers": run.plan.workers,
            "reason": run.plan.reason,
            "fallback": run.plan.fallback,
            "one_by_one": run.plan.one_by_one,
        },
        "memory": run.memory and plain(run.memory, "heap", "shard", "needed", "total"),
        "seconds": run.seconds,
        "member_steps_per_second": run.member_steps_per_second,
    }


def write_folder(folder: Path, summary: dict[str, Any], table: pd.DataFrame, population: Population) -> None:
    """summary.json, members.csv and points.safetensors, each whole or not at all.

    Row k of ``members.csv`` is about row k of the points; where not all were kept, the points' own table has a column
    ``member`` that says which they are.

    The summary has the checksums of the other two (``files``), and one of itself.

    Raises:
        ModelspaceError: the folder can't be written to, or the disk is full; then they are as they were.
    """
    remove_remains(folder, "|".join(map(re.escape, OUTPUTS)))
    with ExitStack() as stack:
        # They take their places when all of them are whole; the summary, which vouches for them, last.
        names = ("summary.json", "members.csv", "points.safetensors")
        page, members, points = (stack.enter_context(whole_file(folder / name)) for name in names)
        save(population, points)
        write_csv(table, members, index_label="member")
        files = dict(zip(names[1:], map(_checksum, (members, points)), strict=True))
        with page.open("w+b") as stream:
            for text in json.JSONEncoder(indent=1, allow_nan=False).iterencode(
                plain({**summary, "files": files})
            ):
                stream.write(text.encode())
            stream.seek(0)
            sealed = _SEAL % hashlib.file_digest(stream, _digest).hexdigest()
            stream.seek(-len(_END), os.SEEK_END)
            stream.write(sealed.encode())


def read_summary(folder: Path) -> dict[str, Any]:
    """What ``write_folder`` wrote into summary.json; a file beside it that has changed since is said.

    Raises:
        ModelspaceError: there is none, it is none, or a bit of it has changed.
    """
    source = folder / "summary.json"
    if not source.is_file():
        raise ModelspaceError(f"no {source}: name the folder that explore or fit --out wrote")
    try:
        text = source.read_text(encoding="utf-8")
        values = parsed(text, _Summary, "it")
    except (OSError, ValueError) as error:
        raise ModelspaceError(f"{source} is not a run's summary: {first_line(error)}") from error
    before = text.rpartition(_SEAL.partition("%s")[0])[0] + _END
    if text != before.removesuffix(_END) + _SEAL % _digest(before.encode()).hexdigest():
        raise ModelspaceError(
            f"{source} is damaged (its checksum differs): the same fit or explore --out writes it again"
        )
    for name, written in values["files"].items():
        path = folder / name
        if name in OUTPUTS and path.is_file() and _checksum(path) != written:
            notice(f"{path} is not what was written: the same fit or explore --out writes it again")
    return values


def _checksum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, _digest).hexdigest()


def print_json(record: Any, *properties: str, **more: Any) -> None:
    """Print one JSON object: a record, or a dictionary, and what is said beside it.

    Args:
        record: Anything that has plain values.
        properties: Of a record: those that are printed too.
        more: Further entries, or others in place of its own.
    """
    sys.stdout.write(json.dumps(plain(record, *properties) | plain(more), allow_nan=False) + "\n")


def named(population: Population, kept: np.ndarray, members: int) -> Population:
    """The members that were kept, with a column that says which they are where they are not all."""
    return population if len(kept) == members else population.with_columns(member=kept)


def dimension(run: Run) -> int | list[int]:
    """n; of members of several spaces, that of each."""
    sizes = [space.dimension for _, space in Population.from_seeds(run.space, run.members).spaces]
    return sizes[0] if len(sizes) == 1 else sizes


def chosen_exports(options: argparse.Namespace) -> list[tuple[str, str]]:
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


def write_exports(exports: Sequence[tuple[str, str]], runs: Mapping[str | None, Run]) -> list[str]:
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
