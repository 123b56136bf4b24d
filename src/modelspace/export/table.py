"""The members' table as a file: comma-separated, or Parquet."""

import os
from pathlib import Path
from typing import IO, Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from modelspace.atomic import whole_file
from modelspace.errors import ModelspaceError
from modelspace.export.packages import needed


def check(kind: str, place: str) -> None:
    """Whether a table could be written.

    Args:
        kind: ``csv`` or ``parquet``.
        place: The file.

    Raises:
        ModelspaceError: its name ends otherwise, it is a folder, or the package is missing.
    """
    path = Path(place)
    if path.suffix.lower() != f".{kind}":
        raise ModelspaceError(f"'{place}' is no name of a {kind} file: it must end in .{kind}")
    if path.is_dir():
        raise ModelspaceError(f"can't write '{place}': it is a folder")
    if kind == "parquet":
        with needed("parquet"):
            import pyarrow  # noqa: F401


def write_csv(table: pd.DataFrame, place: str | os.PathLike[str] | IO[str], **how: Any) -> None:
    """Write a table as comma-separated text in which no cell is a formula to a spreadsheet.

    A name that begins with ``=``, ``+``, ``-``, ``@``, a tab or the end of a line, and is no number, gets an
    apostrophe before it, which spreadsheets take for the mark of text.

    Args:
        table: One row a member.
        place: A file's path, or an open one.
        how: What ``DataFrame.to_csv`` takes.
    """
    safe = table.rename(columns=_text)
    for i, column in enumerate(safe.dtypes):
        if not is_numeric_dtype(column):
            safe.isetitem(i, safe.iloc[:, i].map(_text))
    safe.to_csv(place, **how)


def _text(cell: Any) -> Any:
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def check_table(place: str) -> None:
    """Whether a table could be written, as its file's suffix says.

    Raises:
        ModelspaceError: the suffix is neither ``.csv`` nor ``.parquet``, it is a folder, or the package is missing.
    """
    kind = Path(place).suffix.lower().removeprefix(".")
    if kind not in ("csv", "parquet"):
        raise ModelspaceError(f"'{place}' is no name of a table: it must end in .csv or .parquet")
    check(kind, place)


def write_table(table: pd.DataFrame, place: str) -> None:
    """Write a table, whole or not at all, as its file's suffix says.

    Raises:
        ModelspaceError: the place can't be written to.
    """
    write(table, place, None)


def write(table: pd.DataFrame, place: str, part: str | None) -> None:
    """Write a table, whole or not at all; the file's suffix says how.

    Args:
        table: One row a member.
        place: The file.
        part: What is added to the file's name: ``members-sweep.csv``.

    Raises:
        ModelspaceError: the place can't be written to.
    """
    path = Path(place)
    if part is not None:
        path = path.with_stem(f"{path.stem}-{part}")
    with whole_file(path) as temporary:
        if path.suffix.lower() == ".csv":
            write_csv(table, temporary, index=False)
        else:
            table.to_parquet(temporary, engine="pyarrow", index=False)
