import sys

import pytest

from modelspace.errors import ModelspaceError
from modelspace.loading import file_of_target, load_architecture, load_object


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text("from beside import WIDTH\nclass Net:\n    width = WIDTH\n")
    (tmp_path / "beside.py").write_text("WIDTH = 7\n")
    (tmp_path / "mixed.py").write_text(
        "import sys\nfrom os import getcwd\nfrom pathlib import Path\nfrom torch import nn\nWIDTH = 7\n"
        "class Net(nn.Module): ...\ndef make(): ...\nnet = nn.Linear(2, 3)\n"
    )
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
        # What is no target is no suggestion: modules, the package's own file dummynet among them, and numbers.
        ("modelspace.examples:DumyNet", r"did you mean 'DummyNet'\? Known: DummyNet$"),
        ("mixed.py:Nett", r"did you mean 'Net'\? Known: Net, make, net$"),
    ],
)
def test_what_is_wrong_is_said(folder, target, message):
    with pytest.raises(ModelspaceError, match=message):
        load_object(target)


CALLED = """
import functools
import os
import subprocess
from os import system
import numpy as np
import torch
from torch import nn

touch = functools.partial(os.system, "touch called")
run = functools.partial(subprocess.run, ["touch", "called"])
bound = [].append
cosine = np.cos
nothing = 3

class Plain:
    def __init__(self):
        open("called", "w")

class Made:
    def __call__(self):
        return nn.Linear(2, 2)

made = Made()
built = nn.Linear(2, 2)
half = functools.partial(nn.Linear, 2)

@functools.lru_cache
def cached():
    return nn.Linear(2, 2)

@torch.no_grad()
def decorated():
    return nn.Linear(2, 2)
"""


@pytest.mark.parametrize(
    "target",
    [
        "os:system",
        "os:getcwd",
        "os:makedirs",
        "builtins:print",
        "builtins:exec",
        "builtins:int",
        "math:sqrt",
        "shutil:rmtree",
        "subprocess:Popen",
        "collections:OrderedDict",
        "torch:relu",
        "numpy:sin",
        "called.py:touch",
        "called.py:run",
        "called.py:system",
        "called.py:bound",
        "called.py:cosine",
    ],
)
def test_what_is_python_s_own_or_not_python_is_not_called(folder, target):
    (folder / "called.py").write_text(CALLED)
    for load in (load_object, load_architecture):
        with pytest.raises(ModelspaceError, match=rf"'{target}' is Python's own or not written in Python \("):
            load(target)
    assert not (folder / "called").exists()


@pytest.mark.parametrize("name", ["made", "half", "built", "cached", "decorated"])
def test_modules_and_what_makes_them_are_architectures(folder, name):
    (folder / "called.py").write_text(CALLED)
    assert callable(load_architecture(f"called.py:{name}"))


@pytest.mark.parametrize(("name", "what"), [("Plain", r"the class .*\.Plain"), ("nothing", "a int")])
def test_what_is_no_architecture_is_not_called(folder, name, what):
    (folder / "called.py").write_text(CALLED)
    load_object(f"called.py:{name}")
    with pytest.raises(
        ModelspaceError, match=rf"'called\.py:{name}' is {what}, and is not called: an architecture"
    ):
        load_architecture(f"called.py:{name}")
    assert not (folder / "called").exists()


@pytest.mark.parametrize("target", ["os:system", "builtins:print", "math:sqrt", "shutil:rmtree"])
@pytest.mark.parametrize("verb", ["inspect", "fit", "doctor"])
def test_the_command_line_refuses_them_in_a_line(capsys, verb, target):
    from modelspace.cli import main

    data = ["--data", "digits"] if verb != "inspect" else []
    assert main([verb, target, *data, "--model.path", "x"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1


def test_a_file_is_found_without_executing_what_lies_above_it(folder):
    package = folder / "loud"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('executed')\n")
    (package / "nets.py").write_text("raise SystemExit('executed')\n")
    assert file_of_target("loud.nets:Net") == package / "nets.py"
    assert file_of_target("loud:Net") == package / "__init__.py"
    assert file_of_target("nets.py:Net").name == "nets.py"
    assert file_of_target("missing.py:Net") is None
    assert file_of_target("no.such.module:Net") is None
