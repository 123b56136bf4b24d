"""Each verb does what its help says; --json has the documented keys and nothing else on standard output."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.commands import printed

from modelspace.cli import main
from modelspace.data import digits_7x7
from modelspace.examples import DummyNet
from modelspace.runs import open_run

DUMMY = "examples/dummynet.py:DummyNet"
QUICK = ("--data", "digits-7x7", "--epochs", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "dummynet"
    words = (
        "explore",
        DUMMY,
        *QUICK,
        "--seeds",
        "3",
        "--lr",
        "1e-3,1e-2",
        "--fresh-seeds",
        "4",
        "--out",
        str(path),
    )
    assert main(words) == 0
    return path


def test_inspect_json(capsys):
    found = json.loads(printed(capsys, "inspect", DUMMY, "--input", "3x7x7", "--json"))
    assert found["dimension"] == found["trainable"] == 2512
    assert (found["frozen"], found["buffers"], found["tied"]) == (0, 0, {})
    rows = {layer["name"]: layer for layer in found["layers"]}
    assert rows["conv1"]["parameters"] == 9 * 27 + 9
    assert rows["conv1"]["output_shape"] == [1, 9, 5, 5]
    assert rows["conv1"]["flops"] == 2 * 9 * 27 * 25
    assert found["flops"]["forward"] == 2 * 9 * 27 * 25 + 2 * 225 * 10
    assert found["peak_bytes"] > 4 * 2512
    assert "aten.relu_" in found["uncounted"]


def test_inspect_for_a_reader(capsys):
    text = printed(capsys, "inspect", DUMMY, "--input", "3x7x7", "--batch-size", "2")
    assert "ℝ²⁵¹²" in text
    assert "a batch of 2: 33,300 forward" in text


def test_explore_writes_its_folder(folder):
    assert {p.name for p in folder.iterdir()} == {
        "report.html",
        "summary.json",
        "members.csv",
        "points.safetensors",
        "sweep",
        "fresh",
    }
    assert open_run(folder / "fresh", trust=True).steps.shape == (4,)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["dimension"] == 2512
    assert summary["members"] == 3 * 2 + 4
    assert set(summary["plan"]) >= {"lowering", "shard", "compiled"}
    assert set(summary["test_accuracy"]) >= {"mean", "sd", "min", "q1", "median", "q3", "max", "n"}
    assert set(summary["chosen"]) == {"lr"}


def test_explore_of_nothing_is_the_example(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quickly = ("--seeds", "1", "--epochs", "1", "--fresh-seeds", "2", "--json")
    whole = json.loads(printed(capsys, "explore", *quickly))
    assert (whole["run"], whole["members"]) == ("runs/dummynet", 12 + 2)
    assert (tmp_path / "runs" / "dummynet" / "report.html").exists()
    assert main(["explore", *quickly, "--lr", "1e-2", "--out", "mine"]) == 0
    out, said = capsys.readouterr()
    assert (json.loads(out)["run"], json.loads(out)["members"]) == ("mine", 1 + 2)
    assert "modelspace explore modelspace.examples:DummyNet --data digits-7x7\n" in said


def test_explore_points_open_in_plain_pytorch(folder):
    table = pd.read_csv(folder / "members.csv")
    points = load_file(folder / "points.safetensors")["points"]
    assert points.shape == (len(table), 2512)
    fresh = table[table["phase"] == "fresh"]
    net = DummyNet()
    torch.nn.utils.vector_to_parameters(points[fresh.index[0]], net.parameters())
    test = digits_7x7().test
    right = (net(test.inputs).argmax(1) == test.labels).double().mean()
    assert right.item() == pytest.approx(fresh["test_accuracy"].iloc[0], abs=1e-7)


def test_explore_statistics_are_those_of_the_table(folder):
    table = pd.read_csv(folder / "members.csv")
    scores = table.loc[table["phase"] == "fresh", "test_accuracy"].to_numpy()
    found = json.loads((folder / "summary.json").read_text())["test_accuracy"]
    assert found["n"] == 4
    assert found["mean"] == pytest.approx(np.mean(scores))
    assert found["sd"] == pytest.approx(np.std(scores, ddof=1))
    assert found["median"] == pytest.approx(np.median(scores))
    assert (found["min"], found["max"]) == pytest.approx((scores.min(), scores.max()))


def test_report_draws_again(capsys, folder, tmp_path):
    page = tmp_path / "again.html"
    printed(capsys, "report", folder, "--to", page)
    assert page.read_text() == (folder / "report.html").read_text()


def test_compare_members_of_a_folder(capsys, folder):
    points = folder / "points.safetensors"
    found = json.loads(
        printed(capsys, "compare", DUMMY, f"{points}:6", f"{points}:7", "--data", "digits-7x7", "--json")
    )
    assert found["same_space"] is True
    assert found["same_point"] is False
    assert found["disagreement"] is not None
    assert len(found["path"]) == len(found["path_losses"]) > 2


def test_compare_a_checkpoint_with_its_seed(capsys, tmp_path):
    torch.manual_seed(5)
    save_file(DummyNet().state_dict(), tmp_path / "net.safetensors")
    found = json.loads(printed(capsys, "compare", DUMMY, tmp_path / "net.safetensors", "seed:5", "--json"))
    assert found["same_point"] is True


def test_compare_two_architectures(capsys, tmp_path):
    (tmp_path / "other.py").write_text("from torch import nn\ndef small():\n    return nn.Linear(3, 2)\n")
    words = ("compare", DUMMY, "seed:0", "seed:0", "--with", f"{tmp_path / 'other.py'}:small", "--json")
    found = json.loads(printed(capsys, *words))
    assert found["same_space"] is False
    assert any("conv1.weight" in difference for difference in found["differences"])


def test_fit_json(capsys, tmp_path):
    words = (
        "fit",
        DUMMY,
        *QUICK,
        "--seeds",
        "5-6",
        "--optimizer",
        "sgd",
        "--lr",
        "0.1",
        "--momentum",
        "0,0.9",
    )
    found = json.loads(printed(capsys, *words, "--data-seed", "2", "--out", tmp_path / "run", "--json"))
    assert found["members"] == 8
    assert found["diverged"] == 0
    assert found["member_steps_per_second"] > 0
    table = pd.read_csv(tmp_path / "run" / "members.csv")
    assert set(table["seed"]) == {5, 6}
    assert set(table["momentum"]) == {0.0, 0.9}
    assert set(table["data_seed"]) == {0, 1}
    assert (table["steps"] == 1078 // 32).all()


def test_fit_of_columns_that_divide_and_of_own_data(tmp_path):
    words = "--data digits-7x7 --seeds 1 --lr 1e-2 --epochs 1 --plan vmap --optimizer sgd,adam --batch-size 64,128"
    words = [
        *words.split(),
        "--fold",
        "3",
        "--samples",
        "200,300",
        "--export",
        f"csv={tmp_path / 'table.csv'}",
    ]
    assert main(["fit", DUMMY, *words]) == 0
    table = pd.read_csv(tmp_path / "table.csv")
    columns = ["optimizer", "batch_size", "fold", "samples"]
    assert (len(table), *(table[name].nunique() for name in columns)) == (24, 2, 2, 3, 2)


def test_fit_counts_the_diverged(capsys):
    words = ("fit", DUMMY, *QUICK, "--seeds", "2", "--optimizer", "sgd", "--lr", "1e-2,1e30", "--json")
    assert json.loads(printed(capsys, *words))["diverged"] == 2


def test_model_arguments(capsys, tmp_path):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\ndef mlp(width, bias=True):\n"
        "    return nn.Sequential(nn.Linear(4, width, bias=bias), nn.Linear(width, 2, bias=bias))\n"
    )
    words = (
        "inspect",
        f"{tmp_path / 'nets.py'}:mlp",
        "--input",
        "4",
        "--model.width",
        "8",
        "--model.bias=false",
    )
    assert json.loads(printed(capsys, *words, "--json"))["dimension"] == 4 * 8 + 8 * 2


@pytest.mark.parametrize("verb", ["", "explore", "inspect", "fit", "compare", "report", "runs"])
def test_help_teaches(capsys, verb):
    with pytest.raises(SystemExit, match="0"):
        main([verb, "--help"] if verb else ["--help"])
    text = capsys.readouterr().out
    assert "example" in text
    assert max(map(len, text.splitlines())) <= 116


@pytest.fixture
def table(tmp_path):
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.normal(size=(90, 3)), columns=["a", "b", "c"])
    frame["kind"] = generator.choice(["oak", "elm"], 90)
    frame["plot"] = np.arange(90) // 6
    frame.loc[4, "b"] = np.nan
    frame.to_csv(tmp_path / "trees.csv", index=False)
    (tmp_path / "net.py").write_text("from torch import nn\n\ndef net(): return nn.Linear(4, 2)\n")
    return tmp_path


def test_a_table_with_a_target_and_metrics(capsys, table):
    words = (
        "fit",
        f"{table}/net.py:net",
        "--data",
        f"{table}/trees.csv",
        "--target",
        "kind",
        "--data-group",
        "plot",
    )
    words += ("--missing", "mean", "--metrics", "macro_f1,auroc,f1_1", "--seeds", "2", "--epochs", "1")
    assert main([*words, "--out", str(table / "run")]) == 0
    out, err = capsys.readouterr()
    assert "validation_macro_f1" in out
    assert "numbers, standardised on the training split: a, b, c; missing values" in err
    run = open_run(table / "run")
    assert {"validation_macro_f1", "validation_auroc", "validation_f1_1"} <= set(run.history)
    page = (table / "run" / "report.html").read_text()
    assert "2 classes: elm, oak" in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--data", "{}/trees.csv"), "is a table: give --target, the name of the column"),
        (("--data", "{}/trees.csv", "--target", "kin"), "unknown column 'kin': did you mean 'kind'"),
        (
            ("--data", "{}/trees.csv", "--target", "kind"),
            "missing in 'b' (1 of 90): .* or give --missing mean",
        ),
        (("--data", "digits", "--target", "kind"), "--target and --missing are of a table"),
    ],
)
def test_what_does_not_fit_a_table_is_one_line(capsys, table, words, said):
    assert main(["fit", f"{table}/net.py:net", *(word.format(table) for word in words)]) == 2
    err = capsys.readouterr().err.splitlines()
    assert re.search(said.replace("(1", r"\(1").replace("90)", r"90\)"), err[-1])
