"""What ``fit`` and ``explore`` leave behind: the summary's keys, and the files of a run's folder."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modelspace.atomic import whole_file
from modelspace.fit import Run
from modelspace.population import Population, save


def run_summary(run: Run) -> dict[str, Any]:
    """The keys that every fit shares."""
    return {
        "members": len(run.members),
        "diverged": len(run.diverged),
        "interrupted": run.interrupted,
        "plan": {
            "lowering": run.plan.lowering,
            "chunk": run.plan.chunk,
            "compiled": run.plan.compiled,
            "threads": run.plan.threads,
            "workers": run.plan.workers,
            "reason": run.plan.reason,
            "fallback": run.plan.fallback,
            "one_by_one": run.plan.one_by_one,
        },
        "memory": run.memory and run.memory.to_plain(),
        "seconds": run.seconds,
        "member_steps_per_second": run.member_steps_per_second,
    }


def write_folder(folder: Path, summary: dict[str, Any], table: pd.DataFrame, population: Population) -> None:
    """summary.json, members.csv and points.safetensors, each whole or not at all.

    Row k of ``members.csv`` is about row k of the points; where not all were kept, the points' own table has a column
    ``member`` that says which they are.

    Raises:
        ModelspaceError: the folder can't be written to.
    """
    save(population, folder / "points.safetensors")
    with whole_file(folder / "members.csv") as path:
        table.to_csv(path, index_label="member")
    with whole_file(folder / "summary.json") as path:
        path.write_text(json.dumps(summary, indent=1, default=float), encoding="utf-8")


def print_json(summary: dict[str, Any]) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(json.dumps(summary, default=float) + "\n")


def named(population: Population, kept: np.ndarray, members: int) -> Population:
    """The members that were kept, with a column that says which they are where they are not all."""
    return population if len(kept) == members else population.with_columns(member=kept)
