import sys

import pytest

from modelspace.errors import ModelspaceError
from modelspace.loading import load_object


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text("from beside import WIDTH\nclass Net:\n    width = WIDTH\n")
    (tmp_path / "beside.py").write_text("WIDTH = 7\n")
    (tmp_path / "broken.py").write_text("x = 1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "beside", raising=False)
    return tmp_path


def test_a_class_in_a_file_that_imports_its_neighbour(folder):
    path = list(sys.path)
    assert load_object("nets.py:Net").width == 7
    assert load_object(f"{folder}/nets.py:Net").__name__ == "Net"
    assert sys.path == path


def test_an_object_in_a_package():
    from torch import nn

    assert load_object("torch.nn:Linear") is nn.Linear


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nets.py", "'nets.py' names no object: write file.py:Name or package.module:Name"),
        (":Net", "names no object"),
        ("nets.py:", "names no object"),
        ("missing.py:Net", r"no file 'missing\.py' \(looked in "),
        ("nets.py:Nett", r"unknown name in nets\.py 'Nett': did you mean 'Net'"),
        ("broken.py:Net", r"'broken\.py' fails when it runs: ZeroDivisionError"),
        ("no.such.module:Net", r"module 'no\.such\.module' can't be imported: ModuleNotFoundError"),
        ("torch.nn:Linearr", "did you mean 'Linear'"),
    ],
)
def test_what_is_wrong_is_said(folder, target, message):
    with pytest.raises(ModelspaceError, match=message):
        load_object(target)
