"""Every loss of ours, by name, and as a table that is filtered by what losses are."""

import math
from collections.abc import Iterable, Mapping

import pandas as pd

from modelspace.errors import unknown_name
from modelspace.hyperparameters import Range
from modelspace.losses import (  # noqa: F401  to import a family is to have its losses in the catalogue
    _embedding,
    _likelihoods,
    _margin,
    _multiclass,
    _regression,
    _segmentation,
    _sets,
)
from modelspace.losses._base import Loss

KINDS = ("regression", "margin", "multiclass", "structured")
CATALOGUE: Mapping[str, Loss] = {
    loss.name: loss
    for loss in sorted((kind() for kind in Loss.catalogued), key=lambda loss: KINDS.index(loss.kind))
}


def ranges() -> dict[str, Range]:
    """Give the ranges of all losses' parameters, by name: the columns that a population may have of them."""
    return {name: allowed for loss in CATALOGUE.values() for name, allowed in loss.ranges().items()}


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
    """List the losses of the catalogue that are as asked, a row each, by name.

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
    _refuse_unknown("kind of outputs", outputs, {str(loss.outputs) for loss in CATALOGUE.values()})
    _refuse_unknown("kind of labels", labels, {str(loss.labels) for loss in CATALOGUE.values()})
    names = pd.Index(CATALOGUE, name="loss", dtype=object)
    rows = pd.DataFrame([_row(loss) for loss in CATALOGUE.values()], names, dtype=object)
    equal = {"kind": kind, "outputs": outputs, "labels": labels, "convex": convex}
    equal |= {"calibrated": calibrated, "proper": proper}
    for column, value in equal.items():
        if value is not None:
            rows = rows.loc[[cell == value for cell in rows[column]]]
    for column, value in {"lipschitz": lipschitz, "smooth": smooth, "bound": bounded}.items():
        if value is not None:
            rows = rows.loc[[(cell is not None and math.isfinite(cell)) == value for cell in rows[column]]]
    return rows


def _row(loss: Loss) -> dict[str, object]:
    known = loss.properties
    assert known is not None, f"{loss.name} is of the catalogue, whose losses all state their properties"
    stated = (
        "convex",
        "lipschitz",
        "smooth",
        "bound",
        "calibrated",
        "proper",
        "minimiser",
        "formula",
        "source",
    )
    return {
        "kind": loss.kind,
        "outputs": loss.outputs,
        "labels": loss.labels,
        "parameters": ", ".join(f"{name} = {value:g}" for name, value in loss.hyperparameters().items()),
        **{name: getattr(known, name) for name in stated},
    }


def _refuse_unknown(what: str, name: str | None, known: Iterable[str]) -> None:
    names = list(known)
    if name is not None and name not in names:
        raise unknown_name(what, name, names)
