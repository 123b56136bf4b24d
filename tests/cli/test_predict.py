"""Predictions of a run on new samples, against the members' own outputs."""

import io
import json

import numpy as np
import pandas as pd
import pytest
import torch
from support.commands import printed

import modelspace as ms
from modelspace.cli import main

NET = """
from torch import nn

def Net(out=3):
    return nn.Linear(4, out)

def Price():
    return nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
"""
QUICK = ("--epochs", "1", "--plan", "vmap", "--seeds", "3")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NET)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=generator)
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=(torch.arange(60) % 3).numpy())
    np.savez(tmp_path / "new.npz", x=x[:7].numpy())
    frame = pd.DataFrame(x.numpy(), columns=list("abcd")).assign(price=x[:, 0].numpy() * 3)
    frame.to_csv(tmp_path / "prices.csv", index=False)
    frame.drop(columns="price").iloc[::-1].to_csv(tmp_path / "offers.csv", index=False)
    return tmp_path


def test_probabilities_are_the_mean_of_the_members(folder, capsys):
    assert main(("fit", "nets.py:Net", "--data", "data.npz", "--lr", "0.1", "--out", "run", *QUICK)) == 0
    capsys.readouterr()
    text = printed(capsys, "predict", "run", "--data", "new.npz", "--trust")
    table = pd.read_csv(io.StringIO(text))
    run = ms.open_run("run", trust=True)
    each = ms.predict(run.population, torch.from_numpy(np.load("new.npz")["x"])).double().softmax(2)
    np.testing.assert_allclose(table[["p_0", "p_1", "p_2"]], each.mean(0), atol=1e-6)
    assert table["prediction"].tolist() == each.mean(0).argmax(1).tolist()
    agreed = (each.argmax(2) == each.mean(0).argmax(1)).double().mean(0)
    np.testing.assert_allclose(table["agreement"], agreed)
    entropy = -(each.mean(0) * each.mean(0).log()).sum(1)
    np.testing.assert_allclose(table["total"], entropy, atol=1e-6)
    np.testing.assert_allclose(table["total"], table["aleatoric"] + table["epistemic"], atol=1e-6)


def test_scores_settings_and_files(folder, capsys):
    assert main(("fit", "nets.py:Net", "--data", "data.npz", "--lr", "0.1,1e-9", "--out", "run", *QUICK)) == 0
    words = (
        "predict",
        "run",
        "--data",
        "data.npz",
        "--architecture",
        "nets.py:Net",
        "--out",
        "p.parquet",
        "--json",
    )
    capsys.readouterr()
    assert main(words) == 0
    out = capsys.readouterr()
    found = json.loads(out.out)
    assert (found["members"], found["samples"], found["combine"]) == (3, 60, "mean")
    assert "of the best of 2 settings" in out.err
    assert len(pd.read_parquet("p.parquet")) == 60
    right = (pd.read_parquet("p.parquet")["prediction"].astype(int) == np.load("data.npz")["y"]).mean()
    assert found["scores"]["accuracy"]["ensemble"] == pytest.approx(right)
    assert main((*words[:4], "--trust", "--where", "lr < 1e-3", "--combine", "vote", "--out", "p.csv")) == 0
    assert "3 members with lr < 1e-3, vote" in capsys.readouterr().err


def test_a_table_is_encoded_as_the_one_that_was_fitted_on(folder, capsys):
    table = ("--target", "price")
    words = ("fit", "nets.py:Price", "--data", "prices.csv", *table, "--loss", "mse")
    assert main((*words, "--lr", "0.1", "--out", "run", *QUICK)) == 0
    capsys.readouterr()
    words = ("predict", "run", "--data", "offers.csv", "--trust")
    found = pd.read_csv(io.StringIO(printed(capsys, *words, "--fitted-on", "prices.csv", *table)))
    run, data = ms.open_run("run", trust=True), ms.data.load("prices.csv", target="price")
    each = ms.predict(run.population, data.encoder(pd.read_csv("offers.csv")))
    np.testing.assert_allclose(found["prediction"], each.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["sd"], each.std(0, correction=0), rtol=1e-4, atol=1e-6)
    capsys.readouterr()
    assert main(words) == 2
    assert "encoded as the one that was fitted on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", "new.npz"), "nets.py:Net, which the run names"),
        (("--data", "none.npz", "--trust"), "no file 'none.npz'"),
        (("--data", "new.npz", "--trust", "--calibrate"), "give --fitted-on"),
        (("--data", "new.npz", "--trust", "--out", "p.txt"), "it must end in .csv or .parquet"),
        (("--data", "new.npz", "--trust", "--where", "speed > 1"), "columns: seed, lr"),
        (("--data", "digits", "--trust"), "Net|shape"),
    ],
)
def test_mistakes(folder, capsys, words, message):
    assert main(("fit", "nets.py:Net", "--data", "data.npz", "--lr", "0.1", "--out", "run", *QUICK)) == 0
    capsys.readouterr()
    assert main(("predict", "run", *words)) == 2
    assert any(part in capsys.readouterr().err for part in message.split("|"))


def test_members_of_several_tasks_are_not_thrown_together(folder, capsys):
    words = ("fit", "nets.py:Net", "--data", "data.npz", "--fold", "3", "--lr", "0.1", "--out", "run", *QUICK)
    assert main(words) == 0
    capsys.readouterr()
    assert main(("predict", "run", "--data", "new.npz", "--trust")) == 2
    assert "choose those of one" in capsys.readouterr().err
    assert main(("predict", "run", "--data", "new.npz", "--trust", "--where", "fold == 1")) == 0
