"""A seeded fuzz of the command line and of data files: exit status 0, 1 or 2, one line on 2, never a traceback."""

import random
from collections import Counter

import numpy as np
import pytest

from modelspace.cli import main

NET = """import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.a, self.b = nn.Linear(5, width), nn.Linear(width, 3)
    def forward(self, x):
        return self.b(torch.relu(self.a(x)))
"""
VALID = [
    "fit net.py:Net --data data.npz --seeds 2 --epochs 1 --lr 1e-2,1e-1 --batch-size 8 --plan loop --workers 1",
    "fit net.py:Net --data data.npz --seeds 0-1 --epochs 1 --optimizer sgd --loss cross_entropy --clip-norm 1",
    "explore net.py:Net --data data.npz --seeds 2 --epochs 1 --lr 1e-3:1e-1:2 --fresh-seeds 2 --workers 1",
    "inspect net.py:Net --input 5 --optimizer adam --model.width 6 --json",
    "diff net.py:Net net.py:Net --input 5",
    "doctor net.py:Net --input 5 --loss cross_entropy --only output-count",
    "verify net.py:Net --input 5 --members 2 --steps 2",
    "compare net.py:Net seed:0 seed:1 --data data.npz",
    "losses logistic hinge",
    "runs .",
    "report runs",
]
WORDS = [
    *(
        "",
        " ",
        "-1",
        "0",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "99999999999999999999999",
        "-99999999999999999999",
        "1,1",
    ),
    *(
        "1:2:3:4",
        "1e-4:1e-1:999999999999",
        "é",
        "\x1b[31m",
        "\udc80",
        "a" * 300,
        "a/" * 200,
        "../..",
        "/dev/null",
    ),
    *(
        "--nothing",
        "--json",
        "net.py:",
        ":Net",
        "net.py:Nothing",
        "os:system",
        "missing.npz",
        "net.py",
        "[1",
        "None",
    ),
    *(
        "=cmd",
        "--seeds",
        "--lr",
        "--out",
        "--device",
        "meta",
        "hpu",
        "--threads",
        "0x10",
        "3x",
        "x",
        "1_0",
        "٣",
    ),
]
# What a command takes, or could: most of it reaches a fit.
NEARLY = [
    *(
        "--seeds 1",
        "--seeds 3,5",
        "--seeds 7-8",
        "--seeds 3,3",
        "--epochs 0",
        "--epochs 2",
        "--batch-size 1",
        "--batch-size 7",
    ),
    *(
        "--batch-size 9999",
        "--lr 1e-2",
        "--lr 0",
        "--lr 1e30",
        "--lr nan",
        "--lr 1e-4:1e-1:3",
        "--lr 1e-2,1e-2",
    ),
    *(
        "--optimizer sgd",
        "--optimizer adamw",
        "--optimizer rmsprop",
        "--optimizer lion",
        "--momentum 0.9",
        "--eps 0",
    ),
    *("--betas 0.9/0.99", "--betas 0.9", "--weight-decay 0.1", "--weight-decay -1", "--label-noise 0.2"),
    *(
        "--loss hinge",
        "--loss brier",
        "--loss focal --gamma 0,2",
        "--loss mse",
        "--loss poly1,brier",
        "--loss l1",
    ),
    *("--loss info_nce", "--loss dice", "--schedule cosine", "--schedule warmup*cosine", "--schedule step"),
    *(
        "--early-stopping 1",
        "--precision 64",
        "--precision bf16-mixed",
        "--precision 16-mixed",
        "--precision tf32",
    ),
    *(
        "--accumulate 2",
        "--accumulate 99",
        "--keep scores",
        "--keep 1",
        "--shard 1",
        "--shard 999",
        "--threads 1",
    ),
    *("--plan vmap", "--plan auto", "--split-seed 3", "--data-seed 2", "--dtype float64", "--dtype bfloat16"),
    *(
        "--model.width 0",
        "--model.width 1",
        "--model.width -1",
        "--model.width 64",
        "--model.width x",
        "--model.b 1",
    ),
    *(
        "--column lr=0.1",
        "--column beta=1",
        "--column width=3,x",
        "--column =1",
        "--column seeds=2",
        "--column lr.b=1",
    ),
    *("--input 5", "--input 5x5", "--tokens 3", "--members 2 --steps 2", "--json", "--out runs", "--fresh"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    top = tmp_path_factory.mktemp("fuzz")
    (top / "net.py").write_text(NET)
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(40, 5)).astype(np.float32)
    np.savez(top / "data.npz", inputs=inputs, labels=generator.integers(0, 3, 40))
    return top


def mutated(chance):
    """A valid command line with one or two options more, or a few words dropped, doubled, exchanged or put in."""
    words = chance.choice(VALID).split()
    if chance.random() < 0.6:
        for option in chance.sample(NEARLY, chance.randint(1, 2)):
            words += option.split()  # the last of two of the same counts
        return words
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(1, len(words)) if len(words) > 1 else 0
        kind = chance.randrange(4)
        if kind == 0:
            del words[at]
        elif kind == 1:
            words.insert(at, words[at])
        elif kind == 2:
            words[at] = chance.choice(WORDS)
        else:
            words.insert(at, chance.choice(WORDS))
        words = words or ["fit"]
    return words


def ended(words, capsys):
    """The exit status, after holding what was said against what is promised."""
    try:
        status = main(words)
    except SystemExit as error:
        status = error.code or 0
    said = capsys.readouterr().err
    assert status in (0, 1, 2), (words, said)
    if status == 2:
        last = said.strip().splitlines()[-1]
        assert last.startswith("modelspace"), (words, said)
        assert "Traceback" not in said, (words, said)
        assert "\x1b" not in said, (words, said)
    return status


def fuzzed(seed, number, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    chance, found = random.Random(seed), Counter()
    for _ in range(number):
        found[ended(mutated(chance), capsys)] += 1
    return found


@pytest.mark.filterwarnings("ignore")
def test_some_command_lines(folder, monkeypatch, capsys):
    found = fuzzed(0, 25, folder, monkeypatch, capsys)
    assert found[2] > 8


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_thousand_command_lines(folder, monkeypatch, capsys):
    found = fuzzed(1, 1000, folder, monkeypatch, capsys)
    with capsys.disabled():
        print(f"\n1,000 command lines by exit status: {dict(sorted(found.items()))}")


@pytest.mark.filterwarnings("ignore")
def test_data_files_of_any_content(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    chance = np.random.default_rng(2)
    whole = (folder / "data.npz").read_bytes()
    found = Counter()
    for number in range(30):
        kind = number % 5
        path = folder / "fuzzed.npz"
        if kind == 0:
            path.write_bytes(chance.bytes(int(chance.integers(0, 400))))
        elif kind == 1:
            damaged = bytearray(whole)
            for at in chance.integers(0, len(damaged), 3):
                damaged[at] ^= 1 << int(chance.integers(8))
            path.write_bytes(damaged)
        elif kind == 2:
            path.write_bytes(whole[: int(chance.integers(len(whole)))])
        elif kind == 3:
            np.savez(path, inputs=np.array([{}, None], dtype=object), labels=np.zeros(2))
        else:
            shape = tuple(chance.integers(0, 4, int(chance.integers(0, 4))))
            dtype = chance.choice(["f4", "i8", "c8", "b1", "U3", "M8[s]", "f2"])
            np.savez(path, inputs=np.zeros(shape, dtype), labels=np.zeros(shape[:1], dtype))
        words = "fit net.py:Net --data fuzzed.npz --seeds 1 --epochs 1 --lr 1e-2 --plan loop --workers 1"
        found[ended(words.split(), capsys)] += 1
    assert found[2] > 15
