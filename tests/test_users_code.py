"""What fails in the user's own code is one line that names the user's line; on the command line, exit status 2."""

from dataclasses import dataclass

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import modelspace as ms
from modelspace.cli import main
from modelspace.errors import ModelspaceError, unknown_name

X, Y = torch.randn(40, 5), torch.randint(0, 3, (40,))
START = """import torch
from torch import nn
class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return 2 * x
    @staticmethod
    def backward(ctx, g): return g[0] + {}["wrong"]
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)
        BUILD
    def forward(self, x):
        z = torch.sigmoid(self.a(x))
        FORWARD
        return self.b(z)
def data(): x = torch.randn(60, 5); DATA; return x, x[:, :3].argmax(1)
def loss(z, y): return nn.functional.cross_entropy(z, y) LOSS
"""
FAILURES = {
    "backward": (
        {"FORWARD": "y = self.b(z); z.mul_(0.5); return y + z[:, :3]"},
        "its backward fails: .*z.mul_|line 15",
    ),
    "backward of a function": ({"FORWARD": "z = Double.apply(z)"}, r"KeyError: 'wrong'|line 7"),
    "training alone": (
        {"FORWARD": "z = z + missing if self.training else z"},
        "'missing' is not defined.*line 15",
    ),
    "constructor": ({"BUILD": "self.c = nn.Linear(5)"}, "can't be built: TypeError: .*line 12"),
    "data": ({"DATA": "x[99, 0]"}, "IndexError.*line 17"),
    "hook": ({"BUILD": "self.a.register_forward_hook(lambda m, i, o: o.wrong)"}, "wrong.*line 12"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FAILURES)
def test_the_user_s_line_is_named(name, tmp_path, monkeypatch, capsys):
    changes, why = FAILURES[name]
    text = START
    for place in ("BUILD", "FORWARD", "DATA", "LOSS"):
        text = text.replace(place, changes.get(place, "" if place == "LOSS" else "pass"))
    (tmp_path / "net.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    words = ["--data", "net.py:data", "--seeds", "2", "--epochs", "1", "--lr", "1e-2"]
    assert main(["fit", "net.py:Net", *words]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert "net.py" in said[-1]
    assert pytest.importorskip("re").search(why, said[-1]), said[-1]
    assert not any("Traceback" in line for line in said)


def fit(loss="cross_entropy", **settings):
    space = ms.ModelSpace(lambda: nn.Linear(5, 3), input_shape=(5,))
    return ms.fit(space.sample(2, lr=1e-2), (X, Y), loss=loss, epochs=1, **settings)


def test_several_values_of_a_setting_go_as_a_column():
    with pytest.raises(
        ModelspaceError, match=r"several values go as a column, one a member: space\.sample\(seeds, lr"
    ):
        fit(optimizer=ms.AdamW(lr=[1e-3, 1e-2]))


def test_a_loss_of_the_user_s_own_with_a_number():
    @dataclass(frozen=True)
    class Scaled(ms.losses.Loss):
        beta: float = 2.0

        def per_sample(self, outputs, labels):
            return self.beta * F.cross_entropy(outputs, labels, reduction="none")

    loss = Scaled()
    assert loss.hyperparameters() == {"beta": 2.0}
    assert loss.ranges().keys() == {"beta"}


def test_runs_populations_and_frames_are_refused_in_one_line():
    run = fit()
    with pytest.raises(
        ModelspaceError, match=r"two networks are compared, and a is a Run: give run\.population\.module"
    ):
        ms.compare(run, run)
    with pytest.raises(ModelspaceError, match=r"a is a Population: give population\.module\(0\)"):
        ms.compare(run.population, run.population)
    with pytest.raises(
        ModelspaceError,
        match="data 'DataFrame' is a table: give target=, the name of the column that is to be learned",
    ):
        ms.data.load(pd.DataFrame({"a": [1.0], "label": [0]}))


@pytest.mark.parametrize(("name", "known"), [("epochs", ["eps", "lr"]), ("linear", ["cosine", "step"])])
def test_a_name_that_only_looks_alike_is_not_suggested(name, known):
    assert "did you mean" not in str(unknown_name("column", name, known))
    assert "did you mean 'eps'" in str(unknown_name("column", "epss", ["eps", "lr"]))
