import os

import pytest

from modelspace.atomic import whole_file
from modelspace.errors import ModelspaceError


def test_the_file_appears_whole_and_alone(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with whole_file(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("failure", [RuntimeError("mine"), KeyboardInterrupt()], ids=repr)
def test_a_failure_leaves_what_was_there(tmp_path, failure):
    path = tmp_path / "file.txt"
    path.write_text("before")

    def write():
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(type(failure)):
        write()
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_permissions_are_those_of_an_ordinary_file(tmp_path):
    (tmp_path / "plain").write_text("")
    with whole_file(tmp_path / "whole") as temporary:
        temporary.write_text("")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")

    def write():
        with whole_file(tmp_path / "file" / "below"):
            pass

    with pytest.raises(ModelspaceError, match=r"can't write .*below: (Not a directory|File exists)"):
        write()


def test_a_full_disk_is_said(tmp_path):
    def write():
        with whole_file(tmp_path / "file"):
            raise OSError(28, os.strerror(28))

    with pytest.raises(ModelspaceError, match=r"can't write .*No space left on device"):
        write()
    assert list(tmp_path.iterdir()) == []
