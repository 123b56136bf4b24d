"""The doctor where others work: pytest, pre-commit, and the commands of its page."""

import os
import re
import subprocess
import sys
import tomllib
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from pre_commit.clientlib import load_config, load_manifest
from torch import nn

from modelspace.cli import main, pytest_plugin

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "doctor.md").read_text("utf-8")
PLUGIN = "modelspace.cli.pytest_plugin"
NETS = """from torch import nn


class Sound(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(x)


class Sick(Sound):
    def forward(self, x):
        return self.fc(x).softmax(1)
"""
TESTS = """from nets import Sick, Sound


def test_sound(modelspace_doctor):
    found = modelspace_doctor(Sound, inputs=(4,), loss="cross_entropy", only=["softmax-before-cross-entropy"])
    assert found.checked


def test_sick(modelspace_doctor):
    modelspace_doctor(Sick, inputs=(4,), loss="cross_entropy", only=["softmax-before-cross-entropy"])
"""


def ran(folder, *words, **files):
    """Run pytest in a folder, with the plugin and no others; status and output."""
    for name, text in files.items():
        (folder / f"{name}.{'toml' if name == 'pyproject' else 'py'}").write_text(text)
    paths = [str(ROOT / "src"), str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "120"}
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", *words]
    given = {"cwd": folder, "env": {**os.environ, **own}}
    done = subprocess.run(command, capture_output=True, text=True, check=False, **given)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow  # seconds, to import PyTorch once more
def test_the_fixture_and_the_setting(tmp_path):
    setting = "--input 4 --loss cross_entropy --only softmax-before-cross-entropy"
    lines = "".join(f'"{words} {setting}",' for words in ("nets.py:Sound", "nets.py:Sick", "nets.py:Soun"))
    project = f"[tool.pytest.ini_options]\naddopts = '--strict-markers'\nmodelspace_doctor = [{lines}]\n"
    status, said = ran(tmp_path, nets=NETS, test_nets=TESTS, pyproject=project)
    assert status == 1
    assert "3 failed, 2 passed" in said
    assert len(re.findall(r"^(?:E +)?ERROR softmax-before-cross-entropy", said, re.M)) == 2
    assert "did you mean 'Sound'" in said
    assert "pytest_plugin.py" not in said


def test_the_fixture_fails_with_what_was_found():
    examined = pytest_plugin.modelspace_doctor.__wrapped__()
    given = {"inputs": (4,), "loss": "cross_entropy", "only": ["softmax-before-cross-entropy"]}
    assert examined(nn.Linear(4, 3), **given).checked == ("softmax-before-cross-entropy",)
    with pytest.raises(pytest.fail.Exception, match="ERROR softmax-before-cross-entropy"):
        examined(nn.Sequential(nn.Linear(4, 3), nn.Softmax(1)), **given)


def test_the_setting_s_tests_can_be_chosen(tmp_path):
    """Of a file that is named, or without their marker, they are none."""
    project = "[tool.pytest.ini_options]\nmodelspace_doctor = ['a.py:A --seed 4', 'b.py:B']\n"
    (tmp_path / "test_one.py").write_text("def test_one():\n    pass\n")
    (tmp_path / "pyproject.toml").write_text(project)
    models = ["pyproject.toml::a.py:A --seed 4", "pyproject.toml::b.py:B"]
    for words, chosen in (
        ([], ["test_one.py::test_one", *models]),
        (["test_one.py"], ["test_one.py::test_one"]),
        ([".", "-m", "not modelspace_doctor"], ["test_one.py::test_one"]),
        ([".", "-k", "b.py"], models[1:]),
    ):
        _, said = ran(tmp_path, "--collect-only", "-q", *words)
        assert re.findall(r"^\S+::.+", said, re.M) == chosen


def test_pytest_starts_without_pytorch():
    code = (
        f"import sys, {PLUGIN}\n"
        "heavy = {'torch', 'numpy', 'pandas', 'rich', 'scipy', 'plotly'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_plugin_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"modelspace": PLUGIN}


def test_the_hook_is_one_that_pre_commit_takes(tmp_path):
    (hook,) = load_manifest(str(ROOT / ".pre-commit-hooks.yaml"))
    assert (hook["id"], hook["entry"], hook["pass_filenames"]) == (
        "modelspace-doctor",
        "modelspace doctor",
        False,
    )
    (text,) = [block for block in blocks("yaml") if block.startswith("repos:")]
    path = tmp_path / "config.yaml"
    path.write_text(text)
    (repo,) = load_config(str(path))["repos"]
    assert [each["id"] for each in repo["hooks"]] == [hook["id"]]


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_page_s_commands_run(tmp_path, monkeypatch):
    """In order, on the lecture's network as nets.py."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "examples" / "dummynet.py").read_text("utf-8").replace("DummyNet", "Net")
    Path("nets.py").write_text(text)
    of_ci = [line for block in blocks("sh")[1:] for line in block.splitlines()]
    of_ci += [line[len("- run: ") :] for line in blocks("yaml")[0].splitlines() if line.startswith("- run: ")]
    (toml,) = blocks("toml")
    of_ci += [
        f"modelspace doctor {words}"
        for words in tomllib.loads(toml)["tool"]["pytest"]["ini_options"]["modelspace_doctor"]
    ]
    statuses = []
    for line in of_ci:
        words = line.partition("  #")[0].partition(" > ")[0].split()
        assert words[:2] == ["modelspace", "doctor"]
        if "--fix" in words:
            continue  # tests/cli/test_doctor.py writes
        with redirect_stdout(StringIO()):
            statuses.append(main([*words[1:], "--ignore", "cannot-overfit"]))
    # Written; known; --diff shows the view; known; the view as SARIF; known.
    assert statuses == [0, 0, 1, 0, 1, 0]
    assert Path("nets.py").read_text() == text


@pytest.mark.parametrize(
    "words", [["--fix"], ["--diff"], ["--baseline"], ["--write-baseline"], ["sarif"], ["pre-commit"]]
)
def test_the_help_teaches_it(words, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["doctor", "--help"])
    assert all(word in capsys.readouterr().out for word in words)
