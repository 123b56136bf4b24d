"""Every mistake is one line on standard error, exit status 2, and no traceback."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from support.commands import refused
from support.sampled import sampled

DUMMY = "examples/dummynet.py:DummyNet"
# Printed by rich, by argparse and by ourselves, and short enough for a buffer to hold until the end.
SHORT = [["losses", "--kind", "margin"], ["--version"], ["losses", "hinge", "--json"]]
BUFFERED = {**os.environ, "PYTHONUNBUFFERED": ""}  # else nothing is left to write at the end

NETS = """
from torch import nn

class Needy(nn.Module):
    def __init__(self, width, depth=1):
        super().__init__()
        self.fc = nn.Linear(49, width)

    def forward(self, x):
        return self.fc(x.flatten(1))

def five():
    return nn.Sequential(nn.Flatten(), nn.Linear(147, 5))

def broken():
    return 1 / 0

def data():
    import torch
    inputs = torch.zeros(10, 3, 7, 7)
    inputs[3] = float("nan")
    inputs[5, 0, 0, 0] = float("inf")
    return inputs, torch.arange(10)
"""


@pytest.fixture
def nets(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(NETS)
    return path


def explore(*more):
    return ("explore", DUMMY, "--data", "digits-7x7", "--seeds", 2, "--epochs", 1, "--fresh-seeds", 2, *more)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("inspect", "missing.py:Net"), ["no file 'missing.py'"]),
        (("inspect", "examples/dummynet.py:DumyNet"), ["unknown name", "did you mean 'DummyNet'?"]),
        (("inspect", "examples/dummynet.py"), ["file.py:Name"]),
        (("inspect", "no.such.module:Net"), ["module 'no.such.module' can't be imported"]),
        (("inspect", "torch.nn:Identity"), ["Identity don't tell", "--input 3x224x224"]),
        (("inspect", DUMMY, "--input", "3x8x8"), ["DummyNet", "225", "3×8×8"]),
        (("inspect", DUMMY, "--input", "1x7x7"), ["conv1 (Conv2d)", "[1, 1, 7, 7]", "3"]),
        (("inspect", DUMMY, "--input", "3x7xQ"), ["'Q' is not a whole number"]),
        (("inspect", DUMMY, "--input", "3x7x7", "--batch-size", "0"), ["--batch-size must be at least 1"]),
        (("inspect", DUMMY, "--input", "3x7x7", "--model.width", "3"), ["has no argument width"]),
        (explore("--loss", "cros_entropy"), ["unknown loss", "did you mean 'cross_entropy'?"]),
        (explore("--optimizer", "adamm"), ["unknown optimizer", "did you mean 'adam"]),
        (explore("--schedule", "cosin"), ["unknown schedule", "did you mean 'cosine'?"]),
        (("fit", DUMMY, "--data", "digit"), ["unknown data set", "did you mean 'digits'?"]),
        (("fit", DUMMY, "--data", "missing.npz"), ["missing.npz"]),
        (explore("--lr", "0"), ["learning rate lr must be a positive number", "received 0.0"]),
        (explore("--lr=-1,0.1"), ["must be a positive number", "-1.0"]),
        (explore("--lr", "1e-4:0:3"), ["two positive ends"]),
        (explore("--lr", "fast"), ["'fast' is not a number"]),
        (explore("--alpha", "0.9"), ["alpha", "Adam"]),
        (explore("--betas", "0.9"), ["0.9/0.999"]),
        (explore("--seeds", "3,3"), ["seed 3 is given more than once"]),
        (explore("--epochs", "0"), ["epochs"]),
        (explore("--fresh-seeds", "1"), ["at least 2 fresh seeds"]),
        (explore("--early-stopping", "0"), ["patience"]),
        (explore("--shard", "0"), ["at least 1 member"]),
        (explore("--device", "cuda:99"), ["unknown device", "cpu"]),
        (explore("--out", "/dev/null/run"), ["can't write to --out /dev/null/run"]),
        (explore("--learning-rate", "1"), ["unknown argument '--learning-rate'"]),
        (explore("--epoch", "1"), ["unknown argument '--epoch': did you mean --epochs?"]),
        (("fti", DUMMY), ["unknown verb 'fti': did you mean 'fit'?"]),
        (explore("--input", "1x8x8"), ["--input is (1, 8, 8)", "(3, 7, 7)"]),
        (("fit", DUMMY), ["--data"]),
        (("fit", DUMMY, "--data", "digits", "--metrics", "macro_f"), ["did you mean 'macro_f1'?"]),
        (("explre", DUMMY), ["explre"]),
        (("explore", DUMMY), ["required: --data"]),
        (("explore", "--data", "digits-7x7"), ["required: TARGET"]),
        (("explore", "--data", "digits-7x7", "--epochs", "0", DUMMY), ["epochs is at least 1"]),
        (("compare", DUMMY, "seed:a", "seed:1"), ["seed:7"]),
        (("compare", DUMMY, "net.pt", "seed:1"), ["no file 'net.pt'"]),
        (explore("--epochs", 10**30), ["--epochs", "at most 2⁶³−1"]),
        (explore("--batch-size", -(10**30)), ["--batch-size", "at most 2⁶³−1"]),
        (explore("--seeds", 10**30), ["--seeds", "at most 2⁶³−1"]),
        (explore("--seeds", 10**12), ["1,000,000,000,000 members", "100,000,000"]),
        (explore("--seeds", f"5-{2**63 - 1}"), ["members are more than"]),
        (explore("--data-seed", 10**12), ["1,000,000,000,000", "100,000,000"]),
        (explore("--lr", "1e-4:1:1000000000000"), ["1,000,000,000,000", "100,000,000"]),
        (explore("--lr", "0.01,1e-2"), ["0.01 more than once"]),
        (explore("--data-seed", "3,3"), ["3 more than once"]),
        (explore("--checkpoint-seconds", "nan"), ["--checkpoint-seconds", "positive number"]),
        (explore("--checkpoint-seconds", "-1"), ["--checkpoint-seconds", "positive number"]),
        (("inspect", "a" * 5000 + ".py:Net"), ["File name too long"]),
        (("fit", DUMMY, "--data", "a" * 5000 + ".npz"), ["File name too long"]),
        (("report", "a" * 5000), ["File name too long"]),
        (("inspect", "net\x1b[31m.py:Net"), [r"net\x1b[31m.py"]),
        (("inspect", DUMMY, "--dtype", "\x1b]0;title\x07"), ["invalid choice", r"\x1b]0;title\x07"]),
        (("report", "run\udcff"), [r"run\udcff"]),
        (explore("--fresh-seeds", 10**12), ["1,000,000,000,000", "100,000,000"]),
        (("report", "no/such/run"), ["no no/such/run/summary.json"]),
    ],
)
def test_mistakes(capsys, arguments, says):
    line = refused(capsys, *arguments)
    for part in says:
        assert part in line


def test_missing_arguments_are_named(capsys, nets):
    line = refused(capsys, "inspect", f"{nets}:Needy")
    assert "Needy needs width" in line
    assert "--model.width" in line


def test_architecture_that_fails(capsys, nets):
    assert "ZeroDivisionError" in refused(capsys, "inspect", f"{nets}:broken", "--input", "3")


def test_file_that_fails(capsys, tmp_path):
    (tmp_path / "bad.py").write_text("import nosuchthing")
    assert "ModuleNotFoundError" in refused(capsys, "inspect", f"{tmp_path / 'bad.py'}:Net")


def test_not_finite_data(capsys, nets):
    line = refused(capsys, "fit", DUMMY, "--data", f"{nets}:data")
    assert "2 of 10" in line or "2 rows" in line
    assert "3" in line
    assert "5" in line


def test_labels_out_of_range(capsys, nets):
    line = refused(capsys, "fit", f"{nets}:five", "--data", "digits-7x7")
    assert "labels out of range" in line
    assert "5 outputs" in line


def test_pickles_are_refused(capsys, tmp_path):
    path = tmp_path / "objects.npz"
    np.savez(path, x=np.array([{}], dtype=object), y=np.array([0]))
    assert "object" in refused(capsys, "fit", DUMMY, "--data", path)
    (tmp_path / "net.pt").write_bytes(b"PK")
    assert "never opened" in refused(capsys, "compare", DUMMY, tmp_path / "net.pt", "seed:1")


def test_a_damaged_summary(capsys, tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps({"report": {"kind": 3}}))
    assert "is not a run's summary" in refused(capsys, "report", tmp_path)


@pytest.mark.parametrize("words", sampled(SHORT, 3))
def test_a_full_disk_under_standard_output(words):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    code = f"import sys; from modelspace.cli import main; sys.exit(main({words!r}))"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, env=BUFFERED
        )
    assert done.returncode == 2
    assert done.stderr == "modelspace: No space left on device\n"


@pytest.mark.parametrize("words", sampled(SHORT, 3))
def test_a_reader_that_has_gone(words):
    code = f"import sys; from modelspace.cli import main; sys.exit(main({words!r}))"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, text=True, env=BUFFERED
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
