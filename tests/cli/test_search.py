import json

import pandas as pd
import pytest
from support.commands import printed, refused

from modelspace.cli import main

pytest.importorskip("optuna", reason="Optuna suggests: pip install 'torch-modelspace[search]'")
NETS = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4, classes=10):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(147, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, x):
        return self.net(x)
"""
QUICK = [
    "--data",
    "digits-7x7",
    "--trials",
    "4",
    "--batch",
    "2",
    "--race",
    "1",
    "--fresh-seeds",
    "2",
    "--epochs",
    "1",
    "--batch-size",
    "200",
    "--plan",
    "vmap",
]


@pytest.fixture
def net(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    return f"{tmp_path}/nets.py:Net"


def test_what_is_found_is_printed_and_written(net, capsys, tmp_path):
    out, db = tmp_path / "run", f"sqlite:///{tmp_path}/search.db"
    words = ("search", net, *QUICK, "--over", "lr=1e-3:1e-1", "--over", "optimizer=sgd,adam")
    words += (
        "--over",
        "momentum=0.5:0.9:linear@optimizer=sgd",
        "--model.width",
        "4,8",
        "--parameters",
        "1000",
    )
    first = json.loads(printed(capsys, *words, "--out", out, "--optuna", db, "--json"))
    assert set(first["best"]) >= {"lr", "optimizer", "width"}
    assert first["best"]["width"] == 4  # 8 has 1,274 parameters
    assert first["trials"] == 4
    assert first["members"] == 4 * 2 + 2
    assert set(first["curse"]) == {"validation", "test", "error"}
    assert first["test"]["n"] == 2
    trials = pd.read_csv(out / "trials.csv", index_col="trial")
    assert len(trials) == 4
    assert first["validation"] == pytest.approx(trials["score"].max())
    members = pd.read_csv(out / "members.csv")
    assert members["phase"].tolist() == ["search"] * 8 + ["fresh"] * 2
    assert "every setting" in (out / "report.html").read_text("utf-8").lower()
    assert (tmp_path / "search.db").is_file()
    again = json.loads(printed(capsys, *words, "--out", out, "--json"))
    assert {**again, "seconds": 0} == {**first, "seconds": 0}
    said = printed(capsys, *words, "--out", out)
    assert "search of Net on" in said
    assert "looked better than fresh seeds are by" in said


REFUSED = [
    (("--over", "lr"), "--over lr: write NAME=VALUES, like --lr 1e-4:1e-1"),
    (("--over", "lr=1e-1:1e-4"), "lr: a range is"),
    (("--over", "lr=0.1,0.2", "--over", "lr=0.3"), "--over lr: given more than once"),
    (("--over", "momentum=0.5,0.9@optimizer=sgd"), "what depends on what, and optimizer is not chosen"),
    (("--over", "lr=0.1,0.2", "--seeds", "3,5"), "--seeds is how many a setting has"),
    (("--over", "lr=0.1,0.2", "--sampler", "tp"), "invalid choice: 'tp'"),
    (("--over", "lr=0.1,0.2", "--stop", "half"), "invalid choice: 'half'"),
    (("--over", "lr=0.1,0.2", "--goals", "speed"), "unknown goal"),
    (("--over", "lr=0.1,0.2", "--parameters", "10"), "no setting within --parameters 10"),
    (("--over", "lr=0.1,0.2", "--fresh"), "goes on with what is in its folder"),
    (("--over", "seed=1,2"), "seed is no choice"),
    (("--over", "lr=1e300"), "all 1 settings diverged"),
    ((), "nothing to choose"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_a_mistake_is_one_line(words, said, net, capsys):
    assert said in refused(capsys, "search", net, *QUICK, *words)


def test_help_teaches_ranges(capsys):
    with pytest.raises(SystemExit):
        main(["search", "--help"])
    text = capsys.readouterr().out
    for word in ("--over", "1e-4:1e-1", "8:128", "momentum=0.5:0.99:linear@optimizer=sgd", "winner's curse"):
        assert word in text
