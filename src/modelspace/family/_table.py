"""A family as a table, and what the members traced for it say about its laws."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from modelspace.errors import ModelspaceError
from modelspace.family._axes import Axes, said
from modelspace.family._law import Law
from modelspace.family._members import Member


def table_of(axes: Axes, quantities: Sequence[str], rows: Sequence[Member | ModelspaceError]) -> pd.DataFrame:
    """One row a member: hyper-parameters, then quantities; ``<NA>`` where it can't be built.

    Args:
        axes: The family's hyper-parameters.
        quantities: The columns that follow them.
        rows: What each member costs, or why it has no cost.
    """
    members = list(axes.members())
    columns: dict[str, Any] = {name: _column([member[name] for member in members]) for name in axes.listed}
    for quantity in quantities:
        values = [None if isinstance(row, ModelspaceError) else getattr(row, quantity) for row in rows]
        columns[quantity] = _counts(values)
    return pd.DataFrame(columns)


def _column(values: list[Any]) -> pd.Series:
    simple = all(isinstance(v, int | float | str | bool) for v in values)
    return pd.Series(values, dtype=None if simple else "object")


def _counts(values: list[int | None]) -> pd.Series:
    known = [v for v in values if v is not None]
    if known and max(known) >= 2**63:
        # Python's integers, since no machine word holds them.
        return pd.Series([pd.NA if v is None else v for v in values], dtype="object")
    return pd.Series(values, dtype="int64" if len(known) == len(values) else "Int64")


def refuted(law: Law, member: Mapping[str, Any], value: int, traced: int) -> Law:
    """The law without the piece that a traced member contradicts."""
    reason = f"a law was found, but it gives {value:,} at {said(member)}, where the trace gives {traced:,}"
    pieces = [
        replace(piece, polynomial=None, reason=reason) if piece is law.piece(member) else piece
        for piece in law.pieces
    ]
    return replace(law, pieces=tuple(pieces))
