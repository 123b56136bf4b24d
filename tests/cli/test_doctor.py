"""The verb: exit status, keys, and one line for each mistake."""

import json

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
