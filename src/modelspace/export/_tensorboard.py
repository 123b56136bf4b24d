"""TensorBoard event files: one of TensorBoard's runs for each setting, the quartiles over its members by epoch."""

from pathlib import Path
from typing import Any

import numpy as np

from modelspace.errors import ModelspaceError
from modelspace.export.packages import needed
from modelspace.export.record import ExportRecord, name_of
from modelspace.runs import RANDOM

_SUFFIX = ".modelspace"


def check(place: str) -> None:
    """Whether event files could be written.

    Raises:
        ModelspaceError: the place is a file, or the package is missing.
    """
    if Path(place).exists() and not Path(place).is_dir():
        raise ModelspaceError(f"can't write event files into '{place}': it is no folder")
    with needed("tensorboard"):
        import tensorboard  # noqa: F401


def write(record: ExportRecord, place: str, part: str | None, *, members: bool) -> None:
    """Write a folder for each setting; what an earlier export left in it is replaced.

    Args:
        record: What is exported.
        place: TensorBoard's ``logdir``.
        part: A folder in between.
        members: Whether each member gets a folder within its setting's.

    Raises:
        ModelspaceError: the place can't be written to.
    """
    top = Path(place) / (part or "")
    try:
        for setting in record.settings:
            folder = top / setting.name
            scalars = {
                f"{curve}/{which}": values
                for curve, found in setting.curves.items()
                for which, values in found._asdict().items()
            }
            final = {
                f"final/{curve}/{which}": value
                for curve, found in setting.final.items()
                for which, value in found.items()
            }
            _write(folder, {**scalars, "diverged": setting.diverged}, final, setting.columns)
            for row in setting.rows if members else ():
                seeds = {name: record.table[name].iloc[row] for name in RANDOM if name in record.table}
                own = {curve: values[row] for curve, values in record.history.items()}
                _write(folder / (name_of(seeds) if seeds else f"member={row}"), own, {}, {})
    except OSError as error:
        raise ModelspaceError(f"can't write event files into '{place}': {error.strerror or error}") from error


def _write(
    folder: Path, scalars: dict[str, np.ndarray], final: dict[str, float], columns: dict[str, Any]
) -> None:
    """One of TensorBoard's runs: a point an epoch, counted from 1, where there is a number.

    Args:
        folder: Its folder.
        scalars: By tag, ``[epochs]``.
        final: By tag; they stand at the last epoch, and beside the hyper-parameters.
        columns: Hyper-parameters; none are written where empty.
    """
    from torch.utils.tensorboard.summary import hparams
    from torch.utils.tensorboard.writer import SummaryWriter

    for old in folder.glob(f"events.out.tfevents.*{_SUFFIX}"):
        old.unlink()
    with SummaryWriter(str(folder), filename_suffix=_SUFFIX) as writer:
        if columns:
            values = {n: v if isinstance(v, int | float | str) else str(v) for n, v in columns.items()}
            shown = {tag: value for tag, value in final.items() if tag.endswith("/median")}
            file_writer = writer._get_file_writer()
            for summary in hparams(values, shown):
                file_writer.add_summary(summary)
        epochs = 0
        for tag, points in scalars.items():
            epochs = len(points)
            for epoch in np.flatnonzero(np.isfinite(points)):
                writer.add_scalar(tag, float(points[epoch]), int(epoch) + 1)
        for tag, value in final.items():
            if np.isfinite(value):
                writer.add_scalar(tag, float(value), epochs)
