"""The verb: exit status, keys, and one line for each mistake."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace

import pytest
from support.commands import refused

from modelspace.cli import main
from modelspace.doctor import RULES

DUMMY = "examples/dummynet.py:DummyNet"


def run(capsys, *words):
    status = main(["doctor", *words])
    return status, *capsys.readouterr()


def test_findings_end_with_status_1(capsys):
    status, out, _ = run(capsys, DUMMY, "--input", "3x7x7", "--loss", "nll_loss")
    assert status == 1
    assert out.startswith("ERROR log-probabilities-expected")
    assert "examples/dummynet.py:18" in out


def test_nothing_above_info_ends_with_status_0(capsys):
    words = (
        DUMMY,
        "--input",
        "3x7x7",
        "--loss",
        "cross_entropy",
        "--classes",
        "10",
        "--ignore",
        "batch-reshape",
    )
    status, out, _ = run(capsys, *words)
    assert status == 0
    assert "1 info" in out


def test_json_is_one_object_and_nothing_else(capsys, tmp_path):
    (tmp_path / "loud.py").write_text(
        "from torch import nn\nclass Loud(nn.Linear):\n"
        "    def forward(self, x):\n        print('here')\n        return super().forward(x).softmax(1)\n"
    )
    words = (f"{tmp_path / 'loud.py'}:Loud", "--model.in_features", "4", "--model.out_features", "3")
    status, out, _ = run(capsys, *words, "--input", "4", "--loss", "cross_entropy", "--json")
    found = json.loads(out)
    assert status == 1
    assert [f["rule"] for f in found["findings"]] == ["softmax-before-cross-entropy"]
    assert set(found) >= {"findings", "checked", "skipped", "seconds"}
    assert set(found["findings"][0]) >= {"rule", "severity", "where", "evidence", "fix"}


def test_data_tells_how_labels_are_coded(capsys):
    status, out, _ = run(
        capsys, DUMMY, "--data", "digits-7x7", "--loss", "hinge", "--only", "label-coding", "--json"
    )
    assert status == 1
    assert json.loads(out)["findings"][0]["where"] == "the labels"


def test_what_makes_no_space_is_examined_all_the_same(capsys, tmp_path):
    (tmp_path / "listed.py").write_text(
        "from torch import nn\nclass Listed(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.layers = [nn.Linear(4, 3)]\n"
        "    def forward(self, x):\n        return self.layers[0](x)\n"
    )
    status, out, _ = run(capsys, f"{tmp_path / 'listed.py'}:Listed", "--input", "4")
    assert status == 1
    assert "ERROR unregistered-layers" in out
    assert "listed.py:7" in out


def test_tokens_and_dtype(capsys, tmp_path):
    (tmp_path / "words.py").write_text(
        "from torch import nn\ndef words():\n    return nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9))\n"
    )
    words = (f"{tmp_path / 'words.py'}:words", "--input", "6", "--tokens", "9", "--loss", "cross_entropy")
    status, out, _ = run(capsys, *words, "--dtype", "float64", "--json")
    assert status == 1
    rules = {f["rule"] for f in json.loads(out)["findings"]}
    assert "class-dimension" in rules
    assert "double-precision" not in rules


def test_rules_are_listed(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["doctor", "--rules"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [[rule.severity, rule.name] for rule in RULES]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--ignore", "batch-reshap"), "did you mean 'batch-reshape'"),
        (("--only", "nothing-known"), "unknown rule"),
        (("--loss", "cros_entropy"), "did you mean 'cross_entropy'"),
        (("--input", "3x4"), "expects"),
        (("--data", "digits", "--input", "3x7x7"), "--input is"),
    ],
)
def test_mistakes_are_one_line(capsys, words, expected):
    given = words if "--input" in words else ("--input", "3x7x7", *words)
    assert expected in refused(capsys, "doctor", DUMMY, *given)


LISTED = """from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(4, 4)]  # kept
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(self.layers[0](x).tanh())


body = nn.Sequential(nn.Linear(4, 3), nn.Softmax(1))


def only_the_head(net):
    import torch

    return torch.optim.SGD(net.fc.parameters(), lr=0.1)


def fails(net):
    raise KeyError("nothing")
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(LISTED)
    return tmp_path / "nets.py"


def test_the_formats_say_the_same(capsys, nets):
    words = ("nets.py:Net", "--input", "4", "--ignore", "cannot-overfit")
    (status, text, _), (_, told, _), (_, log, _), (_, lines, _) = (
        run(capsys, *words, "--format", name) for name in ("text", "json", "sarif", "github")
    )
    assert status == 1
    assert text.startswith("ERROR unregistered-layers")
    (finding,) = json.loads(told)["findings"]
    (result,) = json.loads(log)["runs"][0]["results"]
    assert (finding["file"], finding["line"]) == ("nets.py", 11)
    assert result["ruleId"] == finding["rule"] == "unregistered-layers"
    assert lines.startswith("::error file=nets.py,line=11,title=modelspace unregistered-layers::")
    assert json.loads(run(capsys, *words, "--json")[1])["findings"] == [finding]


def test_what_pytorch_wrote_has_the_target_s_line(capsys, nets):
    only = ("--only", "softmax-before-cross-entropy", "--loss", "cross_entropy")
    _, out, _ = run(capsys, "nets.py:body", "--input", "4", *only, "--json")
    (finding,) = json.loads(out)["findings"]
    assert LISTED.splitlines()[finding["line"] - 1].startswith("body = ")
    assert finding["file"] == "nets.py"


def test_a_baseline_is_written_and_held_against(capsys, nets):
    words = ("nets.py:Net", "--input", "4", "--ignore", "cannot-overfit", "--baseline", "known.json")
    assert "--write-baseline writes one" in refused(capsys, "doctor", *words)
    status, out, _ = run(capsys, *words, "--write-baseline")
    assert (status, out.startswith("ERROR unregistered")) == (0, True)
    status, out, _ = run(capsys, *words)
    assert status == 0
    assert out.startswith("Net: nothing found; known: 1 error (unregistered-layers)")
    nets.write_text(LISTED.replace("[nn.Linear(4, 4)]", "nn.ModuleList([nn.Linear(4, 4)])"))
    status, out, _ = run(capsys, *words)
    assert status == 0
    assert "gone since known.json was written: unregistered-layers at Net, nets.py" in out


def test_a_function_makes_the_optimizer(capsys, nets):
    words = ("nets.py:Net", "--only", "optimizer-coverage", "--json", "--optimizer")
    status, out, _ = run(capsys, *words, "nets.py:only_the_head")
    assert status == 0  # the layers in the list are none of the model's parameters
    nets.write_text(LISTED.replace("[nn.Linear(4, 4)]", "nn.ModuleList([nn.Linear(4, 4)])"))
    status, out, _ = run(capsys, *words, "nets.py:only_the_head")
    assert status == 1
    assert json.loads(out)["findings"][0]["where"] == "layers.0.weight, layers.0.bias"
    _, out, _ = run(capsys, *words, "nets.py:fails")
    assert json.loads(out)["skipped"]["optimizer-coverage"].startswith(
        "optimizer= fails: KeyError: 'nothing'; at line 24"
    )


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.slow)], ids=["here", "process"])
def again(request, monkeypatch):
    """The second examination in this process, which takes no seconds, or in its own as for a user."""

    def here(command, **_):
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            status = main(command[3:])
        return SimpleNamespace(returncode=status, stdout=out.getvalue(), stderr=err.getvalue())

    if not request.param:
        monkeypatch.setattr("modelspace.cli.checks.subprocess.run", here)


@pytest.mark.usefixtures("again")
def test_diff_writes_nothing_and_fix_does(capsys, nets):
    words = ("nets.py:Net", "--input", "4", "--ignore", "cannot-overfit")
    status, out, _ = run(capsys, *words, "--diff")
    assert status == 1
    assert out.splitlines()[:2] == ["--- a/nets.py", "+++ b/nets.py"]
    changed = [line for line in out.splitlines()[2:] if line[:1] in "+-"]
    old = "        self.layers = [nn.Linear(4, 4)]  # kept"
    assert changed == [f"-{old}", f"+{old}".replace("[nn.Linear(4, 4)]", "nn.ModuleList([nn.Linear(4, 4)])")]
    assert nets.read_text() == LISTED
    status, out, err = run(capsys, *words, "--fix")
    assert (status, out.startswith("Net: nothing found")) == (0, True)
    assert "fixed: unregistered-layers at Net, nets.py:11" in err
    assert nets.read_text() == LISTED.replace("[nn.Linear(4, 4)]", "nn.ModuleList([nn.Linear(4, 4)])")


@pytest.mark.usefixtures("again")
def test_a_fix_that_breaks_the_model_is_taken_back(capsys, nets):
    # A ModuleList can't be added to a list.
    text = LISTED.replace("self.layers[0](x)", "([] + self.layers)[0](x)")
    nets.write_text(text)
    said = refused(capsys, "doctor", "nets.py:Net", "--input", "4", "--ignore", "cannot-overfit", "--fix")
    assert "the fixes are taken back, nets.py is as it was: with them, " in said
    assert nets.read_text() == text


def test_a_fix_that_changes_nothing_is_taken_back(capsys, nets, monkeypatch):
    words = ("nets.py:Net", "--input", "4", "--only", "unregistered-layers")
    before = SimpleNamespace(returncode=1, stdout=run(capsys, *words, "--json")[1], stderr="")
    monkeypatch.setattr("modelspace.cli.checks.subprocess.run", lambda *_, **__: before)
    assert "with them, unregistered-layers would be found" in refused(capsys, "doctor", *words, "--fix")
    assert nets.read_text() == LISTED


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--write-baseline",), "--baseline FILE"),
        (("--format", "sarif", "--json"), "not allowed with"),
        (("--format", "xml"), "invalid choice"),
        (("--optimizer", "nets.py:nothing"), "nothing"),
    ],
)
def test_mistakes_in_the_new_words(capsys, nets, words, expected):
    assert expected in refused(
        capsys, "doctor", "nets.py:Net", "--input", "4", "--only", "optimizer-coverage", *words
    )
