"""Tables read back by pandas are the run's table."""

import csv

import numpy as np
import pandas as pd
import pytest

from modelspace import ModelspaceError
from modelspace.export import export
from modelspace.export.table import write_csv

READ = {
    "csv": pd.read_csv,
    "parquet": pd.read_parquet,
}


def same(found, run):
    assert found["member"].tolist() == list(range(len(run.table)))
    for name, values in run.table.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(found[name], values, rtol=1e-15)  # as pandas reads text
        else:
            assert found[name].tolist() == values.tolist()
    assert list(found) == ["member", *run.table]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("source", ["memory", "folder"])
def test_a_table_is_the_run_s(run, kind, source, tmp_path):
    path = tmp_path / "new" / f"members.{kind}"
    export(run if source == "memory" else run.folder, kind, path)
    same(READ[kind](path), run)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_part_is_in_the_file_s_name(run, tmp_path):
    export(run, "csv", tmp_path / "members.csv", part="sweep")
    same(READ["csv"](tmp_path / "members-sweep.csv"), run)


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("csv", "members.parquet", r"it must end in \.csv"),
        ("parquet", "members", r"it must end in \.parquet"),
        ("csv", "folder.csv", "it is a folder"),
        ("csv", "file/members.csv", "can't write"),
    ],
)
def test_a_place_that_does_not_fit(run, tmp_path, kind, name, message):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ModelspaceError, match=message):
        export(run, kind, tmp_path / name)


def test_what_can_t_be_written_whole_leaves_what_was_there(run, tmp_path, monkeypatch):
    path = tmp_path / "members.csv"
    path.write_text("before")

    def fails(self, path, **options):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fails)
    with pytest.raises(ModelspaceError, match="No space left on device"):
        export(run, "csv", path)
    assert path.read_text() == "before"


def test_no_cell_is_a_formula(tmp_path):
    names = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "-1.5", "plain"]
    table = pd.DataFrame({"loss": names, "=x": range(-3, 4)})
    write_csv(table, tmp_path / "members.csv", index=False)
    with (tmp_path / "members.csv").open(newline="") as stream:
        head, *rows = csv.reader(stream)
    assert head == ["loss", "'=x"]
    assert [row[0] for row in rows] == [*(f"'{name}" for name in names[:5]), "-1.5", "plain"]
    assert [int(row[1]) for row in rows] == list(range(-3, 4))
    assert table["loss"].tolist() == names
