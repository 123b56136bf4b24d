"""The verb: exit status, keys, arguments of each side."""

import json

import pytest
from support.commands import refused

from modelspace.cli import main

DUMMY = "examples/dummynet.py:DummyNet"
NETS = "from torch import nn\ndef mlp(width, bias=True):\n    return nn.Linear(4, width, bias=bias)\n"


@pytest.fixture
def nets(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(NETS)
    return f"{path}:mlp"


def run(capsys, *words):
    status = main(["diff", *words])
    return status, capsys.readouterr().out


def test_equal_is_status_0(capsys):
    status, out = run(capsys, DUMMY, DUMMY, "--input", "3x7x7")
    assert status == 0
    assert "no difference" in out


def test_different_is_status_1_and_json_has_its_keys(capsys, nets):
    status, out = run(
        capsys, nets, nets, "--model.width", "3,5", "--model.bias=false", "--json", "--batch-size", "2"
    )
    found = json.loads(out)
    assert status == 1
    assert set(found) >= {"equal", "architectures", "same", "changes", "totals", "ties", "inputs", "untraced"}
    assert found["architectures"] == ["mlp(width=3, bias=False)", "mlp(width=5, bias=False)"]
    assert found["totals"]["parameters"] == [12, 20]
    assert found["totals"]["forward_flops"] == [2 * 2 * 12, 2 * 2 * 20]
    assert found["changes"][0]["what"]["weight"] == ["3×4 float32", "5×4 float32"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--model.width", "1,2,3"), "two with a comma between them"),
        (("--model.width", "3"), "they are"),
        (("--model.width", "3", "--input", "5"), "expects"),
    ],
)
def test_mistakes(capsys, nets, words, expected):
    if expected == "they are":
        assert run(capsys, nets, nets, *words)[0] == 0
    else:
        assert expected in refused(capsys, "diff", nets, nets, *words)
