"""The ground between a run's members, and how it bends: against the functions that the verbs call."""

import json

import numpy as np
import pandas as pd
import pytest
from support.commands import printed

import modelspace as ms
from modelspace.cli import main

NET = """
from torch import nn

def Net(out=3):
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, out))
"""
QUICK = ("--epochs", "2", "--plan", "vmap", "--batch-size", "10")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NET)
    generator = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=generator.normal(size=(60, 4)).astype("f"), y=np.arange(60) % 3)
    fit = (
        "fit",
        "nets.py:Net",
        "--data",
        "data.npz",
        "--seeds",
        "5",
        "--lr",
        "0.1",
        "--record",
        "points@epochs=1",
    )
    assert main((*fit, "--optimizer", "sgd", "--out", "run", *QUICK)) == 0
    return tmp_path


def test_a_landscape_of_a_run(folder, capsys):
    words = (
        "landscape",
        "run",
        "--data",
        "data.npz",
        "--trust",
        "--grid",
        "5",
        "--score",
        "accuracy",
        "--json",
    )
    found = json.loads(printed(capsys, *words, "--out", "ground"))
    assert {"plane", "grid", "loss", "members", "barrier", "seconds"} <= found.keys()
    run = ms.open_run("run", trust=True)
    expected = ms.landscape(run.population[:3], "data.npz", plane="seeds", grid=5)
    np.testing.assert_allclose(found["loss"], expected.mean(), rtol=1e-6)
    assert [m["seed"] for m in found["members"]] == [0, 1, 2]
    assert found["barrier"]["n"] == 3
    np.testing.assert_allclose(found["barrier"]["mean"], expected.barriers.mean, rtol=1e-5, atol=1e-7)
    table = pd.read_parquet("ground/points.parquet")
    assert {"x", "y", "train_loss", "test_accuracy"} <= set(table)
    assert np.load("ground/landscape.npz")["train_loss"].shape == (1, 5, 5)
    (folder / "ground/report.html").unlink()
    lines = printed(capsys, "report", "ground", "--pictures", "figures").split()
    assert "figures/train_loss-contour.svg" in lines
    assert all((folder / line).is_file() for line in lines)


def test_curvature_of_a_run_at_its_end_and_on_the_way(folder, capsys):
    words = ("curvature", "run", "--data", "data.npz", "--trust", "--top", "2", "--probes", "4")
    found = json.loads(printed(capsys, *words, "--json"))
    assert {"members", "operator", "samples", "seconds"} <= found.keys()
    expected = ms.curvature(ms.open_run("run", trust=True), "data.npz", top=2, probes=4)
    np.testing.assert_allclose([m["top"] for m in found["members"]], expected.top, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose([m["trace"] for m in found["members"]], expected.trace, rtol=1e-4)
    assert [m["member"] for m in found["members"]] == [0, 1, 2, 3, 4]
    text = printed(capsys, *words, "--moments", "points", "--members", "2", "--out", "bends")
    table = pd.read_parquet("bends/curvature.parquet")
    assert table["step"].tolist() == [0, 3, 6] * 2
    assert set(table["member"]) == {0, 1}
    np.testing.assert_allclose(table["threshold"], 20.0)
    assert "written: bends/report.html" in text
    assert "plot-edge" in (folder / "bends/report.html").read_text()


def test_members_of_a_target_are_trained_first(folder, capsys):
    words = (
        "landscape",
        "nets.py:Net",
        "--data",
        "data.npz",
        "--plane",
        "line",
        "--grid",
        "4",
        "--seeds",
        "2",
    )
    found = json.loads(printed(capsys, *words, "--lr", "0.1", "--json", *QUICK))
    assert np.shape(found["loss"]) == (4,)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("landscape", "run", "--data", "data.npz"), "give --trust to execute"),
        (("landscape", "nets.py:Net"), "give --data DATA"),
        (("landscape", "run", "--trust", "--data", "data.npz", "--members", "2"), "goes through 3 members"),
        (("landscape", "run", "--trust", "--data", "data.npz", "--members", "0"), "--members is at least 1"),
        (("landscape", "run", "--trust", "--data", "data.npz", "--plane", "seed"), "invalid choice: 'seed'"),
        (
            ("curvature", "run", "--trust", "--data", "data.npz", "--moments", "point"),
            "did you mean 'points'",
        ),
        (("curvature", "run", "--trust", "--data", "data.npz", "--probes", "1"), "2 probes or more"),
        (("curvature", ".", "--trust", "--data", "data.npz"), "holds no run"),
        (("curvature", "run", "--trust", "--data", "none.npz"), "none.npz"),
    ],
)
def test_mistakes_are_one_line(folder, capsys, words, says):
    capsys.readouterr()
    try:
        status = main(words)
    except SystemExit as end:
        status = end.code
    out, err = capsys.readouterr()
    *before, last = err.splitlines()
    assert (status, out) == (2, "")
    assert says in last
    assert all(line.startswith("executing ") for line in before)
