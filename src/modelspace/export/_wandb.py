"""Weights & Biases: a run for each setting, grouped by space; offline too, with ``WANDB_MODE=offline``."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from modelspace.errors import ModelspaceError
from modelspace.export.packages import needed
from modelspace.export.record import ExportRecord, Setting
from modelspace.export.table import write_csv

_FORBIDDEN = "\\#?%:"


def check(place: str) -> None:
    """Whether a project could be written to; asks for the key where there is none and someone to ask.

    Args:
        place: ``project``, or ``entity/project``.

    Raises:
        ModelspaceError: it is no such name, nobody is logged in, or the package is missing.
    """
    entity, slash, project = place.rpartition("/")
    if not project or (slash and not entity) or "/" in entity or set(project) & set(_FORBIDDEN):
        raise ModelspaceError(f"'{place}' names no project of wandb's: write project, or entity/project")
    with needed("wandb"):
        import wandb  # pyright: ignore[reportMissingImports]
    with _told(wandb):
        if os.environ.get("WANDB_MODE", "online") == "online":
            wandb.login()


def write(record: ExportRecord, place: str, part: str | None) -> None:
    """Write a run for each setting into a project; the runs' folder is ``./wandb``, or in ``WANDB_DIR``.

    Args:
        record: What is exported.
        place: ``project``, or ``entity/project``.
        part: What the runs' names begin with; also their job type.

    Raises:
        ModelspaceError: wandb refuses, or does not answer.
    """
    import wandb  # pyright: ignore[reportMissingImports]

    entity, _, project = place.rpartition("/")
    with _told(wandb):
        for setting in record.settings:
            with wandb.init(
                project=project,
                entity=entity or None,
                name=f"{part} {setting.name}" if part else setting.name,
                group=record.title,
                job_type=part,
                config={
                    **record.recipe,
                    "space": record.title,
                    "data": record.data,
                    **setting.columns,
                    "members": len(setting.rows),
                },
                reinit="create_new",  # a run that the caller has begun stays as it is
                settings=wandb.Settings(silent=True),
            ) as run:
                _fill(wandb, run, record, setting)


def _fill(wandb: Any, run: Any, record: ExportRecord, setting: Setting) -> None:
    """Metrics by epoch counted from 1, the last scores' distribution, and the members' table."""
    scalars = {
        f"{curve}/{which}": values
        for curve, found in setting.curves.items()
        for which, values in found._asdict().items()
    }
    scalars["diverged"] = setting.diverged
    for epoch in range(len(setting.diverged)):
        known = {name: float(points[epoch]) for name, points in scalars.items() if np.isfinite(points[epoch])}
        run.log(known, step=epoch + 1)
    for curve, found in setting.final.items():
        for which, value in found.items():
            if np.isfinite(value):
                run.summary[f"final/{curve}/{which}"] = value
    artifact = wandb.Artifact(f"members-{run.id}", type="table")
    with artifact.new_file("members.csv", encoding="utf-8") as stream:
        write_csv(record.table.iloc[setting.rows], stream, index=False)
    run.log_artifact(artifact)


@contextmanager
def _told(wandb: Any) -> Iterator[None]:
    """What goes wrong there as one message."""
    try:
        yield
    except (wandb.Error, OSError) as error:
        line = str(error).strip().split("\n", 1)[0]
        raise ModelspaceError(
            f"wandb: {line} (WANDB_MODE=offline needs no account; `wandb sync` sends later)"
        ) from error
