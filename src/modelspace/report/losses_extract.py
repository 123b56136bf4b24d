"""From a run with a column ``loss`` to the record of its losses on equal terms."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from modelspace import losses
from modelspace.compare import compare_losses
from modelspace.data import Data
from modelspace.errors import ModelspaceError
from modelspace.losses import Curve, Loss, curve, has_curve
from modelspace.report.record import LossesRecord
from modelspace.runs import Run

_MOST_CURVES = 14
_EVERY = 4  # of a curve's points are drawn: what a page can show


def losses_of_run(run: Run, data: Data | None = None, *, split: str | None = None) -> LossesRecord | None:
    """The losses of a run, compared on a split of the data, or by the run's own scores where points or data are gone.

    Args:
        run: What ``fit`` gave.
        data: What it was fitted on, where it is at hand.
        split: Which split; the test split where None, or the validation split where there is no test split.

    Returns:
        None where the loss is no column.
    """
    if "loss" not in run.members:
        return None
    drawn = tuple(_thinned(curve(loss)) for loss in islice(filter(has_curve, _trained(run)), _MOST_CURVES))
    try:
        if data is None or len(run.kept) < len(run.members):
            return LossesRecord(compare_losses(run), None, drawn)
        split = split or ("test" if len(data.test) else "validation")
        return LossesRecord(compare_losses(run, data, split=split), None, drawn)
    except ModelspaceError as error:
        return LossesRecord(None, str(error), drawn)


def _trained(run: Run) -> Iterator[Loss]:
    """Each loss at each combination of its own parameters that was trained."""
    for name in run.members["loss"].unique():
        loss = losses.resolve(name)
        own = [column for column in loss.hyperparameters() if column in run.members]
        rows = run.members.loc[run.members["loss"] == name, own]
        for values in dict.fromkeys(rows.itertuples(index=False, name=None)):
            yield loss.at({column: float(value) for column, value in zip(own, values, strict=True)})


def _thinned(whole: Curve) -> Curve:
    columns = {name: getattr(whole, name) for name in ("points", "value", "slope", "curvature")}
    fewer = {n: tuple(float(f"{v:.6g}") for v in column[::_EVERY]) for n, column in columns.items()}
    return replace(whole, **fewer)
