"""MLflow: an experiment for the space, a run for each setting."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from modelspace.errors import ModelspaceError
from modelspace.export.packages import needed
from modelspace.export.record import ExportRecord, Setting
from modelspace.export.table import write_csv

_FILES = "MLFLOW_ALLOW_FILE_STORE"  # newer versions ask for it before they write a folder
_BATCH = 1000  # metrics a call, which is all that a server takes
_LONGEST = 500  # characters of a parameter's value, which is all that older ones take


def check(place: str) -> None:
    """Whether the store answers.

    Args:
        place: A folder, or the address of a store: ``sqlite:///runs.db``, ``http://localhost:5000``.

    Raises:
        ModelspaceError: it does not, or the package is missing.
    """
    with _client(place) as client:
        client.search_experiments(max_results=1)


def write(record: ExportRecord, place: str, part: str | None) -> None:
    """Write a run for each setting into the experiment of the space's name, which is made where there is none.

    Args:
        record: What is exported.
        place: The store.
        part: What the runs' names begin with; also a tag.

    Raises:
        ModelspaceError: the store refuses, or does not answer.
    """
    with _client(place) as client:
        experiment = client.get_experiment_by_name(record.title)
        number = (
            client.create_experiment(record.title, artifact_location=_artifacts(place))
            if experiment is None
            else experiment.experiment_id
        )
        for setting in record.settings:
            tags = {"data": record.data, **({"part": part} if part else {})}
            name = f"{part} {setting.name}" if part else setting.name
            run = client.create_run(number, run_name=name, tags=tags).info.run_id
            try:
                _fill(client, run, record, setting)
            except BaseException:
                client.set_terminated(run, "FAILED")
                raise
            client.set_terminated(run)


def _fill(client: Any, run: str, record: ExportRecord, setting: Setting) -> None:
    """Parameters, metrics by epoch counted from 1, the last scores' distribution, and the members' table."""
    from mlflow.entities import Metric, Param  # pyright: ignore[reportMissingImports]

    now = int(time.time() * 1000)
    params = {**record.recipe, "data": record.data, **setting.columns, "members": len(setting.rows)}
    client.log_batch(run, params=[Param(_key(n), str(v)[:_LONGEST]) for n, v in params.items()])
    scalars = {
        f"{curve}/{which}": values
        for curve, found in setting.curves.items()
        for which, values in found._asdict().items()
    }
    metrics = [
        Metric(_key(name), float(points[epoch]), now, int(epoch) + 1)
        for name, points in {**scalars, "diverged": setting.diverged}.items()
        for epoch in np.flatnonzero(np.isfinite(points))
    ]
    metrics += [
        Metric(_key(f"final/{curve}/{which}"), float(value), now, len(setting.diverged))
        for curve, found in setting.final.items()
        for which, value in found.items()
        if np.isfinite(value)
    ]
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run, metrics=metrics[start : start + _BATCH])
    with TemporaryDirectory() as folder:
        path = Path(folder) / "members.csv"
        write_csv(record.table.iloc[setting.rows], path, index=False)
        client.log_artifact(run, str(path))


@contextmanager
def _client(place: str) -> Iterator[Any]:
    """A client of the store; what goes wrong there as one message."""
    with needed("mlflow"):
        from mlflow.exceptions import MlflowException  # pyright: ignore[reportMissingImports]
        from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]
    if place.startswith("sqlite:") and not all(map(find_spec, ("sqlalchemy", "alembic", "sqlparse"))):
        raise ModelspaceError(
            f"MLflow's store '{place}' needs sqlalchemy, alembic and sqlparse: "
            "pip install 'torch-modelspace[mlflow]' installs them; or give a folder"
        )
    before = os.environ.get(_FILES)
    os.environ[_FILES] = "true"
    try:
        yield MlflowClient(tracking_uri=place if "://" in place else str(Path(place).absolute()))
    except (MlflowException, OSError) as error:
        line = str(error).strip().split("\n", 1)[0]
        raise ModelspaceError(f"MLflow's store '{place}': {line}") from error
    finally:
        if before is None:
            del os.environ[_FILES]
        else:
            os.environ[_FILES] = before


def _artifacts(place: str) -> str | None:
    """Beside an SQLite file; elsewhere the store knows."""
    if not place.startswith("sqlite:///"):
        return None
    return (Path(place.removeprefix("sqlite:///")).absolute().parent / "mlartifacts").as_uri()


def _key(name: str) -> str:
    """A name of the characters that MLflow takes."""
    return re.sub(r"[^\w. /-]", "_", name)
