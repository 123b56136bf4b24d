"""Of a run with a column ``loss``: for each loss and label noise, the setting that is best on validation."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from modelspace import losses
from modelspace.errors import ModelspaceError
from modelspace.losses import Loss
from modelspace.runs import RANDOM, Status, best_of, responses_of
from modelspace.show import setting_text


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
        return setting_text(self.values)


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
            "losses are compared where they are a column: fit space.sample(…, loss=['logistic', 'hinge']); "
            f"this run has the columns {', '.join(map(str, members.columns))}"
        )
    ended = status != Status.UNFINISHED
    if not ended.any():
        raise ModelspaceError("no member of this run was trained to the end: there is nothing to compare")
    names, noise = members["loss"].to_numpy(), members.get("label_noise")
    found = []
    for name in pd.unique(names):
        own = ended & (names == name)
        for level in [None] if noise is None else sorted(set(noise[own].tolist())):
            rows = np.flatnonzero(own if noise is None else own & (noise == level).to_numpy())
            if len(rows):
                found.append(_chosen(str(name), level, rows, members, status, accuracy))
    return found


def _chosen(
    name: str,
    noise: float | None,
    rows: np.ndarray,
    members: pd.DataFrame,
    status: np.ndarray,
    accuracy: np.ndarray | None,
) -> Chosen:
    loss = losses.resolve(name)
    others = {"loss", "label_noise", *losses.ranges()} - set(loss.hyperparameters())
    columns = [c for c in members.columns if c in RANDOM or c not in others]
    random = [c for c in RANDOM if c in members]
    if columns:
        rows = rows[~members[columns].iloc[rows].duplicated().to_numpy()]
    own = members[columns].iloc[rows]
    known = np.full(len(members), np.nan) if accuracy is None else accuracy
    settings, responses = responses_of(own, known[rows], status[rows], higher_is_better=True)
    if len(settings) > 1 and accuracy is None:
        varied = ", ".join(c for c in columns if c not in random)
        raise ModelspaceError(
            f"'{name}' was fitted at {len(settings)} settings of {varied}, and the run has no validation "
            "accuracy to choose by: fit with a validation split and metrics=('accuracy',), or one setting"
        )
    values, places = settings[best_of(responses, higher_is_better=True) or 0]
    terms = {n: float(values[n]) for n in loss.hyperparameters() if n in values}
    chosen = rows[places]
    seeds = own[random].iloc[places].itertuples(index=False) if random else chosen.tolist()
    return Chosen(
        name,
        loss.at(terms),
        None if noise is None else float(noise),
        values,
        len(settings),
        tuple(chosen.tolist()),
        tuple(tuple(seed) if random else seed for seed in seeds),
        tuple((status[chosen] == Status.DIVERGED).tolist()),
    )
