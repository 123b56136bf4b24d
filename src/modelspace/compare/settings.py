"""Of a run with a column ``loss``: for each loss and label noise, the setting that is best on validation."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from modelspace import losses
from modelspace.errors import ModelspaceError
from modelspace.losses import Loss

RANDOM = (
    "seed",
    "data_seed",
    "source",
)  # they say which random numbers a member drew, and are nothing to choose
DIVERGED, UNFINISHED = "diverged", "unfinished"


@dataclass(frozen=True)
class Chosen:
    """One loss at one label noise, at its chosen setting.

    Attributes:
        name: As the column ``loss`` has it.
        loss: With the setting's values of its own parameters.
        noise: The label noise; None where it is no column.
        values: The setting: columns and values.
        among: How many settings it was chosen among.
        members: Positions in the run, one for each seed.
        seeds: What pairs a member with another loss's: its seed, and its ``data_seed`` where that is a column.
        diverged: Whether each diverged.
    """

    name: str
    loss: Loss
    noise: float | None
    values: Mapping[str, Any]
    among: int
    members: tuple[int, ...]
    seeds: tuple[Hashable, ...]
    diverged: tuple[bool, ...]

    @property
    def setting(self) -> str:
        """``lr = 0.01, gamma = 2``; empty where nothing else is a column."""
        return ", ".join(
            f"{n} = {v:g}" if isinstance(v, float) else f"{n} = {v}" for n, v in self.values.items()
        )


def chosen_settings(members: pd.DataFrame, status: np.ndarray, accuracy: np.ndarray | None) -> list[Chosen]:
    """For each loss and label noise, the setting with the best median validation accuracy over seeds.

    A member that diverged counts as the worst; of equal settings the first is taken. A column that is a parameter of
    other losses only is none of this loss's: of members alike in all that the loss reads, one is kept. Members that
    were not trained to the end, since the run was interrupted, are left out.

    Args:
        members: The run's table, with a column ``loss``.
        status: How each member ended.
        accuracy: Each member's last validation accuracy; None where there is none.

    Returns:
        In the order of the table: losses first, then label noise, ascending.

    Raises:
        ModelspaceError: no column ``loss``, no finished member, or several settings without a validation accuracy.
    """
    if "loss" not in members:
        raise ModelspaceError(
            "losses are compared where they are a column: fit space.sample(…, loss=['logistic', 'hinge']), "
            f"or --loss logistic,hinge; this run has the columns {', '.join(map(str, members.columns))}"
        )
    ended = members.assign(
        _status=status, _accuracy=np.nan if accuracy is None else accuracy, _member=range(len(members))
    )
    ended = ended.loc[ended["_status"] != UNFINISHED]
    if ended.empty:
        raise ModelspaceError("no member of this run was trained to the end: there is nothing to compare")
    has_noise = "label_noise" in members
    found = []
    for name in members["loss"].unique():
        own = ended.loc[ended["loss"] == name]
        for noise in sorted(set(own["label_noise"].tolist())) if has_noise else [None]:
            rows = own if noise is None else own.loc[own["label_noise"] == noise]
            if len(rows):
                found.append(
                    _chosen(str(name), noise, rows, _columns_of(name, members), accuracy is not None)
                )
    return found


def _columns_of(name: str, members: pd.DataFrame) -> list[str]:
    """The columns that are a setting to this loss."""
    others = set(losses.ranges()) - set(losses.resolve(name).hyperparameters())
    return [c for c in members.columns if c not in (*RANDOM, "loss", "label_noise", *others)]


def _chosen(name: str, noise: float | None, rows: pd.DataFrame, columns: list[str], known: bool) -> Chosen:
    random = [c for c in RANDOM if c in rows]
    rows = rows.drop_duplicates([*columns, *random])
    groups: list[tuple[Any, pd.DataFrame]] = (
        list(rows.groupby(columns, sort=False)) if columns else [((), rows)]
    )
    if len(groups) > 1 and not known:
        raise ModelspaceError(
            f"'{name}' was fitted at {len(groups)} settings of {', '.join(columns)}, and the run has no validation "
            "accuracy to choose by: fit with a validation split and metrics=('accuracy',), or one setting"
        )
    # The first of equals: argmax takes it.
    best = int(np.argmax([_median(group) for _, group in groups])) if len(groups) > 1 else 0
    key, group = groups[best]
    values = dict(zip(columns, key if isinstance(key, tuple) else (key,), strict=True))
    loss = losses.resolve(name)
    terms = {n: float(values[n]) for n in loss.hyperparameters() if n in values}
    seeds = (
        [tuple(row) for row in group[random].itertuples(index=False)] if random else group["_member"].tolist()
    )
    return Chosen(
        name,
        loss.at(terms),
        None if noise is None else float(noise),
        values,
        len(groups),
        tuple(int(k) for k in group["_member"]),
        tuple(seeds),
        tuple((group["_status"] == DIVERGED).tolist()),
    )


def _median(group: pd.DataFrame) -> float:
    scores = np.where(group["_status"] == DIVERGED, -np.inf, group["_accuracy"])
    # By rank: an infinite score must not turn its neighbour into NaN.
    return float(np.quantile(np.nan_to_num(scores, nan=-np.inf), 0.5, method="nearest"))
