"""`modelspace runs`, and `--export`: what is said is what the runs in memory say; mistakes are one line."""

import json
import shutil
import sqlite3

import numpy as np
import pandas as pd
import pytest
from support.commands import printed, refused
from support.runs import altered, held

from modelspace.cli import main
from modelspace.runs import open_run
from modelspace.runs.catalogue import VERSION

NET = """
from pathlib import Path
from torch import nn

Path(__file__).with_name("executed").touch()

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(147, 10)

    def forward(self, x):
        return self.fc(x.flatten(1))
"""
FIT = (
    "--data",
    "digits-7x7",
    "--plan",
    "vmap",
    "--workers",
    "1",
    "--threads",
    "1",
    "--shard",
    "4",
    "--epochs",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two runs below one folder, whose architecture can't be executed any longer."""
    top = tmp_path_factory.mktemp("made")
    (top / "net.py").write_text(NET)
    net, folder = f"{top}/net.py:Net", top / "runs"
    adam = ("--lr", "1e-3,1e-2,1e38", "--seeds", "4", "--out", str(folder / "deep" / "adam"))
    assert main(["fit", net, *FIT, "2", *adam]) == 0
    assert (
        main(["fit", net, *FIT, "1", "--optimizer", "sgd", "--lr", "1e-2", "--out", str(folder / "sgd")]) == 0
    )
    runs = {name: open_run(folder / name, trust=True) for name in ("deep/adam", "sgd")}
    (top / "executed").unlink()
    yield folder, runs
    assert not (top / "executed").exists()


@pytest.fixture
def copied(made, tmp_path):
    """A copy of the first run, to be damaged."""
    return shutil.copytree(made[0] / "deep" / "adam", tmp_path / "run")


def test_the_list(capsys, made):
    folder, runs = made
    found = json.loads(printed(capsys, "runs", folder, "--json"))["runs"]
    assert [each["run"] for each in found] == [str(folder / "deep/adam"), str(folder / "sgd")]
    for each, run in zip(found, runs.values(), strict=True):
        assert (each["space"], each["data"]) == ("Net", "digits-7x7")
        assert each["members"] == each["done"] == len(run.members)
        assert each["diverged"] == len(run.diverged)
        assert each["epochs"] == run.settings["epochs"]
        assert each["seconds"] == pytest.approx(run.seconds)
        below = sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file())
        assert each["bytes"] == below
    medians = (
        runs["deep/adam"].table.groupby("lr")["validation_accuracy"].quantile(0.5, interpolation="nearest")
    )
    best = found[0]["best"]
    assert best["setting"] == {"lr": medians.loc[[1e-3, 1e-2]].idxmax()}
    assert best["score"] == "validation_accuracy"
    assert best["median"] == pytest.approx(medians.max())


def test_the_list_for_a_reader_is_a_line_a_run(capsys, made):
    folder, _ = made
    lines = printed(capsys, "runs", folder / "deep", folder / "sgd", folder).splitlines()
    assert len(lines) == 3
    assert str(folder / "deep/adam") in lines[1]
    assert "12/12" in lines[1]
    assert "16/16" in lines[2]


def test_the_list_looks_in_runs(capsys, made, monkeypatch):
    monkeypatch.chdir(made[0].parent)
    assert len(json.loads(printed(capsys, "runs", "--json"))["runs"]) == 2


def test_show(capsys, made):
    folder, runs = made
    run = runs["deep/adam"]
    found = json.loads(printed(capsys, "runs", "show", folder / "deep/adam", "--json"))
    assert set(found) == {
        *("run", "target", "spec", "environment", "plan", "epochs", "members", "states"),
        *("seconds", "bytes", "score", "best", "settings"),
    }
    assert found["target"].endswith("net.py:Net")
    assert found["spec"]["optimizer"] == run.settings["optimizer"]
    assert set(found["environment"]) >= {"torch", "python", "device", "commit"}
    assert found["plan"]["shard"] == 4
    assert found["states"] == {"finished": 8, "diverged": 4}
    table = run.table.groupby("lr")["validation_accuracy"]
    for each in found["settings"]:
        assert (each["members"], each["ended"]) == (4, 4)
        lr = each["setting"]["lr"]
        if lr == 1e38:
            assert (each["median"], each["diverged"]) == (None, 4)
        else:
            quartile = table.quantile(0.25, interpolation="nearest")[lr]
            assert (each["q1"], each["diverged"]) == (pytest.approx(quartile), 0)


def test_show_for_a_reader(capsys, made):
    text = printed(capsys, "runs", "show", made[0] / "deep/adam")
    for part in (
        "Net on digits-7x7",
        "8 finished, 4 diverged",
        "environment",
        "lr=1e+38",
        "vmap, shards of 4",
    ):
        assert part in text


def test_compare(capsys, made):
    folder, runs = made
    found = json.loads(printed(capsys, "runs", "compare", folder / "deep/adam", "--json", folder / "sgd"))
    assert found["runs"] == [str(folder / "deep/adam"), str(folder / "sgd")]
    spec = found["differences"]["spec"]
    assert set(spec) == {"optimizer", "epochs"}
    assert spec["epochs"] == [2, 1]
    assert found["differences"]["environment"] == {}
    for name, each in found["scores"].items():
        for run, one in zip(runs.values(), each, strict=True):
            scores = run.table.loc[run.table["status"] == "finished", name]
            assert (one["n"], one["diverged"]) == (len(scores), len(run.diverged))
            quartiles = [one["q1"], one["median"], one["q3"]]
            assert quartiles == pytest.approx(np.quantile(scores, [0.25, 0.5, 0.75]))
    by_setting = {each["setting"]["lr"]: each["runs"] for each in found["settings"]}
    assert by_setting[1e-3][1] is None
    assert by_setting[1e38][0] == {"n": 0, "q1": None, "median": None, "q3": None, "diverged": 4}
    assert by_setting[1e-2][0]["n"] == 4
    assert by_setting[1e-2][1]["n"] == 16


def test_a_member_that_diverged_late_is_counted_beside_whatever_it_scored_before(capsys, made, copied):
    altered(copied, "UPDATE shards SET states = CAST(X'02' || substr(states, 2) AS BLOB) WHERE number = 0")
    found = json.loads(printed(capsys, "runs", "compare", copied, made[0] / "sgd", "--json"))
    run = made[1]["deep/adam"]
    ours = found["scores"]["train_loss"][0]
    assert (ours["n"], ours["diverged"]) == (7, 5)
    assert ours["median"] == pytest.approx(run.table["train_loss"][1:8].median())


def test_compare_for_a_reader(capsys, made):
    folder, _ = made
    text = printed(capsys, "runs", "compare", folder / "deep/adam", folder / "sgd")
    assert "Adam(" in text
    assert "SGD(" in text
    assert "they differ in nothing" in printed(capsys, "runs", "compare", folder / "sgd", folder / "sgd")


def test_export(capsys, made, tmp_path):
    folder, runs = made
    words = ("--to", "csv", tmp_path / "m.csv", "--to", "tensorboard", tmp_path / "tb", "--members")
    refusal = refused(capsys, "runs", "export", folder / "deep/adam", *words)
    assert "to tensorboard only" in refusal
    assert list(tmp_path.iterdir()) == []
    printed(capsys, "runs", "export", folder / "deep/adam", *words[:3])
    assert pd.read_csv(tmp_path / "m.csv")["status"].tolist() == runs["deep/adam"].status.tolist()
    found = json.loads(printed(capsys, "runs", "export", folder / "deep/adam", "--json", *words[3:]))
    assert found["exported"] == [{"to": "tensorboard", "place": str(tmp_path / "tb")}]
    assert (tmp_path / "tb" / "lr=0.001" / "seed=3").is_dir()


def test_fit_and_explore_export(capsys, tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(NET)
    net = f"{tmp_path}/net.py:Net"
    words = ("--seeds", 2, "--lr", "1e-2", "--export", f"csv={tmp_path}/a.csv")
    more = ("--export", f"parquet={tmp_path}/b.parquet", "--export", f"tensorboard={tmp_path}/tb")
    text = printed(capsys, "fit", net, *FIT, 1, *words, *more)
    assert text.count("exported: ") == 3
    assert len(pd.read_csv(tmp_path / "a.csv")) == len(pd.read_parquet(tmp_path / "b.parquet")) == 2
    json.loads(printed(capsys, "explore", net, *FIT, 1, *words, *more, "--fresh-seeds", 3, "--json"))
    assert len(pd.read_csv(tmp_path / "a-sweep.csv")) == 2
    assert len(pd.read_parquet(tmp_path / "b-fresh.parquet")) == 3
    assert (tmp_path / "tb" / "fresh" / "lr=0.01").is_dir()


def test_an_export_that_fails_keeps_the_folder_the_summary_and_the_other_exports(capsys, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "file").touch()
    exports = ("--export", f"csv={tmp_path}/file/a.csv", "--export", f"csv={tmp_path}/b.csv")
    words = ("--seeds", "2", "--out", f"{tmp_path}/run", *exports, "--json")
    assert main(["fit", f"{tmp_path}/net.py:Net", *FIT, "1", *words]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["members"] == 2
    assert f"can't write {tmp_path}/file/a.csv" in err
    assert len(pd.read_csv(tmp_path / "b.csv")) == 2
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tensorbord=x", "did you mean 'tensorboard'?"),
        ("csv", "write TO=PLACE"),
        ("csv=members.txt", "it must end in .csv"),
        ("wandb=", "needs a place"),
    ],
)
@pytest.mark.parametrize("verb", ["fit", "explore"])
def test_an_export_that_can_t_be_is_refused_before_anything_is_executed(capsys, tmp_path, verb, text, says):
    (tmp_path / "net.py").write_text(NET)
    words = (verb, f"{tmp_path}/net.py:Net", *FIT, 1, "--out", tmp_path / "out", "--export", text)
    assert says in refused(capsys, *words)
    assert {path.name for path in tmp_path.iterdir()} == {"net.py"}


def test_a_run_half_done_that_a_process_is_at(capsys, copied, tmp_path):
    altered(copied, "DELETE FROM shards WHERE number = 0")
    with held(copied):
        (found,) = json.loads(printed(capsys, "runs", copied, "--json"))["runs"]
        assert (found["done"], found["members"], found["best"]["setting"]) == (8, 12, {"lr": 1e-2})
        shown = json.loads(printed(capsys, "runs", "show", copied, "--json"))
        assert shown["states"] == {"unfinished": 4, "finished": 4, "diverged": 4}
        assert "0/4" in printed(capsys, "runs", "show", copied)
        printed(capsys, "runs", "export", copied, "--to", "tensorboard", tmp_path / "tb")


def newer(folder):
    with sqlite3.connect(folder / "run.sqlite") as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")


DAMAGES = {
    "no catalogue": (
        lambda folder: (folder / "run.sqlite").write_text("hello " * 1000),
        "the file is damaged",
    ),
    "cut short": (
        lambda folder: (folder / "run.sqlite").write_bytes((folder / "run.sqlite").read_bytes()[:5000]),
        "the file is damaged",
    ),
    "empty": (lambda folder: (folder / "run.sqlite").write_bytes(b""), "holds no run yet"),
    "newer": (newer, f"written by a newer modelspace (format {VERSION + 1}"),
}


@pytest.mark.parametrize(("damage", "says"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_run_that_can_t_be_read(capsys, made, copied, damage, says, tmp_path):
    damage(copied)
    good = made[0] / "sgd"
    for words in (
        ("show", copied),
        ("compare", good, copied),
        ("export", copied, "--to", "csv", tmp_path / "x.csv"),
    ):
        assert says in refused(capsys, "runs", *words)
    assert main(["runs", str(copied), str(good)]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert "can't be read" in out
    assert says in err
    found = json.loads(printed(capsys, "runs", copied, good, "--json"))["runs"]
    assert [each["problem"] is None for each in found] == [False, True]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("no/such",), "no folder 'no/such'"),
        ((), "no folder 'runs'"),
        ((".",), "no run below ."),
        (("shwo", "x"), "did you mean 'show'?"),
        (("show",), "RUN"),
        (("show", "no/such"), "no folder 'no/such'"),
        (("show", "."), "'.' holds no run"),
        (("compare", "a"), "two runs or more"),
        (("compare", "a", "b"), "no folder 'a'"),
        (("export", ".", "--to", "csv"), "expected 2 arguments"),
        (("export", "x"), "--to"),
        (("show", "x", "--jsn"), "--jsn"),
        (("--jsn",), "--jsn"),
    ],
)
def test_mistakes(capsys, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert says in refused(capsys, "runs", *arguments)


def test_a_folder_of_runs_names_those_below(capsys, made):
    line = refused(capsys, "runs", "show", made[0])
    assert str(made[0] / "deep/adam") in line
    assert str(made[0] / "sgd") in line


@pytest.mark.parametrize("action", ["", "show", "compare", "export"])
def test_help_teaches(capsys, action):
    with pytest.raises(SystemExit, match="0"):
        main(["runs", *([action] if action else []), "--help"])
    text = capsys.readouterr().out
    assert "example" in text
    assert f"modelspace runs {action}".rstrip() in text
    assert max(map(len, text.splitlines())) <= 116


def test_names_are_not_read_as_markup(capsys, made, tmp_path):
    shutil.copytree(made[0] / "sgd", tmp_path / "[red]run")
    assert "[red]run" in printed(capsys, "runs", tmp_path)
