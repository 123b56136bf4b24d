"""``--column``: a column without a flag reaches what reads it; one with a flag is that flag's; mistakes in a line."""

import pandas as pd
import pytest
from support.commands import printed, refused

NETS = """
from dataclasses import dataclass

import torch
from torch import nn

import modelspace as ms

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.fc, self.head = nn.Linear(64, width), nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.fc(x.flatten(1)))

def tempered(model, batch, temperature=1.0, beta=1.0):
    return beta * nn.functional.cross_entropy(model(batch[0]) / temperature, batch[1])

def noisy(x, augment=0.0):
    return x + augment * torch.randn_like(x)

@dataclass(frozen=True)
class Cubed(ms.losses.MarginLoss):
    '''The hinge loss, cubed.'''

    within: float = ms.losses.parameter(1.0, "width of the margin", above=0)
    properties = ms.losses.Properties("max(0, w - v)^3", convex=True, calibrated=True)

    def phi(self, v):
        return (self.within - v).clamp(min=0) ** 3

cubed = Cubed()

def signs():
    x = torch.linspace(-1, 1, 40 * 64).reshape(40, 64).sin()
    return x, 2 * (torch.arange(40) % 2) - 1

def one(): return nn.Sequential(nn.Linear(64, 1), nn.Flatten(0))
"""
QUICK = "--seeds 1 --epochs 1 --batch-size 16 --plan vmap --workers 1 --threads 1 --shard 8"


@pytest.fixture
def nets(tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)


def table(capsys, words):
    printed(capsys, "fit", *words.split(), *QUICK.split(), "--out", "run", "--fresh")
    return pd.read_csv("run/members.csv")


@pytest.mark.parametrize(
    ("words", "columns"),
    [
        (
            "nets.py:Net --data digits --objective nets.py:tempered --column beta=1,3 --column temperature=0.5:2:2",
            {"beta": [1, 3], "temperature": [0.5, 2]},
        ),
        ("nets.py:Net --data digits --transform nets.py:noisy --column augment=0,9", {"augment": [0, 9]}),
        ("nets.py:one --data nets.py:signs --loss nets.py:cubed --column within=1,3", {"within": [1, 3]}),
        ("nets.py:Net --data digits --column width=3,5 --column lr=1e-2", {"width": [3, 5], "lr": [1e-2]}),
    ],
)
def test_a_column_reaches_what_reads_it(nets, capsys, words, columns):
    found = table(capsys, words)
    for name, values in columns.items():
        assert sorted(found[name].unique()) == values
    own = found.groupby(next(iter(columns)))["train_loss"].mean()
    assert own.nunique() == len(own) == 2


def test_a_column_with_a_flag_is_the_flag_s(nets, capsys):
    start = "nets.py:Net --data digits --group head=head.* "
    flags = "--optimizer sgd,adam --lr 1e-3,1e-2 --fold 2 --betas 0.8/0.9 --lr.head 0.1 --model.width 3,4"
    words = flags.split()
    columns = " ".join(f"--column {n[2:]}={v}" for n, v in zip(words[::2], words[1::2], strict=True))
    first, second = (table(capsys, start + more) for more in (flags, columns))
    assert len(first) == 16
    names = sorted(first.columns)
    pd.testing.assert_frame_equal(first[names], second[names])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--column beta", "'beta': a column is NAME=V, like beta=0.1,1"),
        ("--column beta=", "'beta=': a column is NAME=V"),
        ("--column beta=x", "--column beta=x: 'x' is not a number"),
        ("--column beta=0:1:2", "--column beta=0:1:2: a logarithmic range needs two positive ends"),
        ("--column lr=x", "argument --lr: 'x' is not a number"),
        (
            "--column beta=1 --column beta=2",
            "--column beta: given more than once; several values are one column",
        ),
        ("--column seeds=3", "seeds are given by --seeds"),
        ("--column self=3", "--column self: no column may be called so"),
        ("--column epochs=3", "epochs is one for the whole fit"),
        ("--column bta=3 --objective nets.py:tempered", "did you mean 'beta'"),
        ("--column lr.head=3", "lr of a group of parameters, and there is none"),
    ],
)
def test_mistakes_are_one_line(nets, capsys, words, says):
    assert says in refused(capsys, "fit", "nets.py:Net", "--data", "digits", *QUICK.split(), *words.split())
