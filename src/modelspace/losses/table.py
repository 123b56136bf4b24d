"""The catalogue as a table, filtered by what losses are."""

import math
from collections.abc import Iterable, Mapping

import pandas as pd

from modelspace.errors import ModelspaceError, unknown_name
from modelspace.losses.catalogue import CATALOGUE, MARGIN, MULTICLASS, REGRESSION, STRUCTURED
from modelspace.losses.formula import readable
from modelspace.losses.loss import Loss

KINDS: Mapping[str, tuple[type[Loss], ...]] = {
    "regression": REGRESSION,
    "margin": MARGIN,
    "multiclass": MULTICLASS,
    "structured": STRUCTURED,
}
COLUMNS = (
    *("kind", "outputs", "labels", "parameters", "convex", "lipschitz", "smooth", "bound"),
    *("calibrated", "proper", "minimiser", "formula", "source"),
)


def kind_of(loss: Loss) -> str | None:
    """``regression``, ``margin``, ``multiclass`` or ``structured``; None for what is not of the catalogue."""
    return next((kind for kind, types in KINDS.items() if type(loss) in types), None)


def table(
    *,
    kind: str | None = None,
    outputs: str | None = None,
    labels: str | None = None,
    convex: bool | None = None,
    lipschitz: bool | None = None,
    smooth: bool | None = None,
    bounded: bool | None = None,
    calibrated: bool | None = None,
    proper: bool | None = None,
) -> pd.DataFrame:
    """The losses of the catalogue that are as asked, a row each, by name.

    Args:
        kind: ``regression``, ``margin``, ``multiclass`` or ``structured``; any where None, as in what follows.
        outputs: What the outputs are taken for: ``score``, ``logits``, ``probability`` …
        labels: What the labels are: ``sign``, ``class``, ``real`` …
        convex: Whether convex in the outputs.
        lipschitz: Whether a finite Lipschitz constant is known.
        smooth: Whether a finite constant of smoothness (Lipschitz gradient) is known.
        bounded: Whether bounded above.
        calibrated: Whether classification-calibrated; a loss of no classes is neither.
        proper: Whether it gives back the probabilities; a loss without probabilities is neither.

    Returns:
        Columns ``kind``, ``outputs``, ``labels``, ``parameters`` (name = default), ``convex``, ``lipschitz`` and
        ``smooth`` (constants; inf where there is none), ``bound``, ``calibrated``, ``proper``, ``minimiser``,
        ``formula`` (plain text), ``source``. The properties are those at the default parameters.

    Raises:
        ModelspaceError: an unknown kind, or outputs or labels of which no loss is.

    Example:
        >>> list(table(kind="margin", convex=True, proper=True, lipschitz=True).index)
        ['logistic', 'modified_huber']
    """
    _refuse_unknown("kind of loss", kind, KINDS)
    _refuse_unknown("kind of outputs", outputs, {str(each.outputs) for each in CATALOGUE.values()})
    _refuse_unknown("kind of labels", labels, {str(each.labels) for each in CATALOGUE.values()})
    rows = {name: _row(loss) for name, loss in CATALOGUE.items()}
    wanted = {"kind": kind, "outputs": outputs, "labels": labels, "convex": convex}
    wanted |= {"calibrated": calibrated, "proper": proper}
    finite = {"lipschitz": lipschitz, "smooth": smooth, "bound": bounded}

    def fits(row: dict[str, object]) -> bool:
        plain = all(value is None or row[name] == value for name, value in wanted.items())
        return plain and all(value is None or _finite(row[name]) == value for name, value in finite.items())

    kept = {name: row for name, row in rows.items() if fits(row)}
    index = pd.Index(kept, name="loss", dtype=object)
    columns = {name: pd.Series([row[name] for row in kept.values()], index, dtype=object) for name in COLUMNS}
    return pd.DataFrame(columns, index=index)


def parameters(loss: Loss) -> dict[str, str]:
    """Each hyper-parameter with its default and range: ``{"gamma": "2, a number of at least 0"}``."""
    ranges = loss.ranges()
    return {
        name: f"{value:g}, {ranges[name].expected}" if name in ranges else f"{value}"
        for name, value in loss.hyperparameters().items()
    }


def _row(loss: Loss) -> dict[str, object]:
    known = loss.properties
    if known is None:
        raise ModelspaceError(f"'{loss.name}' states no properties")
    own = ", ".join(f"{name} = {value:g}" for name, value in loss.hyperparameters().items())
    minimiser = (
        readable(known.minimiser) if "\\" in known.minimiser else known.minimiser.replace(" - ", " − ")
    )
    values = (kind_of(loss), loss.outputs, loss.labels, own, known.convex, known.lipschitz, known.smooth)
    more = (known.bound, known.calibrated, known.proper, minimiser, readable(known.formula), known.source)
    return dict(zip(COLUMNS, (*values, *more), strict=True))


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _refuse_unknown(what: str, name: str | None, known: Iterable[str]) -> None:
    names = list(known)
    if name is not None and name not in names:
        raise unknown_name(what, name, names)
