"""The members' table as a file: comma-separated, or Parquet."""

from pathlib import Path

import pandas as pd

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
            table.to_csv(temporary, index=False)
        else:
            table.to_parquet(temporary, engine="pyarrow", index=False)
