"""A run's results where other tools read them: tables, TensorBoard, MLflow, Weights & Biases.

Each tool's package is imported when it is first exported to, in the one file of its name. ``record`` holds what is
exported; the files beside it write it, each with a ``check`` that can be made before anything is trained.
"""

import os

from modelspace.errors import ModelspaceError, unknown_name
from modelspace.export import _mlflow, _tensorboard, _wandb, table
from modelspace.export.record import name_of, record_of, table_of
from modelspace.export.table import check_table, write_csv, write_table
from modelspace.runs import Run

TARGETS = ("csv", "parquet", "tensorboard", "mlflow", "wandb")

__all__ = ["TARGETS", "check", "check_table", "export", "name_of", "write_csv", "write_table"]


def export(
    run: Run | str | os.PathLike[str],
    to: str,
    place: str | os.PathLike[str],
    *,
    members: bool = False,
    part: str | None = None,
) -> None:
    """Write a run's results for another tool.

    A table has one row a member. The others get one of their runs for each setting, that is for the members that
    differ in nothing but their seeds: its hyper-parameters; of each curve and epoch, counted from 1, the median
    and the quartiles over the members whose value is finite, and how many have diverged; the distribution of
    the last scores of the members that did not diverge.

    Args:
        run: What ``fit`` returned, or a folder that holds a run: its architecture is not needed then.
        to: ``"csv"``, ``"parquet"``, ``"tensorboard"``, ``"mlflow"`` or ``"wandb"``.
        place: A file whose name ends in ``.csv`` or ``.parquet``; TensorBoard's log folder; MLflow's store
            (a folder, ``sqlite:///runs.db``, or a server's address); wandb's project (or ``entity/project``).
            What is written again replaces a table and TensorBoard's files; MLflow and wandb get new runs.
        members: For TensorBoard: also one run a member, in its setting's folder. The others' tables have them.
        part: What the results are called beside others at the same place: ``"sweep"``.

    Raises:
        ModelspaceError: there is no such target; its package is missing (the message says what to install); the
            place doesn't fit it or can't be written to; the folder holds no run that can be read.

    Example:
        >>> import pandas as pd
        >>> space = ms.ModelSpace(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), input_shape=(1, 8, 8))
        >>> run = ms.fit(space.sample(2, lr=[0.01, 0.1]), ms.data.digits(), epochs=1)
        >>> export(run, "csv", "members.csv")
        >>> pd.read_csv("members.csv").columns.tolist()
        ['member', 'seed', 'lr', 'status', 'steps', 'train_loss', 'validation_loss', 'validation_accuracy']
    """
    place = os.fspath(place)
    check(to, place, members=members)
    if to in ("csv", "parquet"):
        table.write(table_of(run), place, part)
    elif to == "tensorboard":
        _tensorboard.write(record_of(run), place, part, members=members)
    else:
        {"mlflow": _mlflow, "wandb": _wandb}[to].write(record_of(run), place, part)


def check(to: str, place: str, *, members: bool = False) -> None:
    """Whether ``export`` could write there, as far as that can be said beforehand.

    Args:
        to: As ``export``.
        place: As ``export``.
        members: As ``export``.

    Raises:
        ModelspaceError: it could not.
    """
    if to not in TARGETS:
        raise unknown_name("export", to, TARGETS)
    if not place:
        raise ModelspaceError(f"exporting to {to} needs a place: {to}=PLACE")
    if members and to != "tensorboard":
        raise ModelspaceError(
            f"members one by one are exported to tensorboard only: {to} has them in the table"
        )
    if to in ("csv", "parquet"):
        table.check(to, place)
    else:
        {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}[to].check(place)
