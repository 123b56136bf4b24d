"""Verdicts: against members that are trained by hand, against counting, and by what must come out."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import modelspace as ms
from modelspace import ModelspaceError
from modelspace.cli import main
from modelspace.compare.verdict import Verdict

QUICK = {"plan": {"compile": False}, "epochs": 2, "components": 0, "batch_size": 16}


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 4, generator=generator)
    noise = torch.randn(300, generator=generator)
    return ms.data.load((x, (x[:, 0] + 0.7 * noise > 0).long()), name="noisy sign")


@pytest.fixture(scope="module")
def space():
    return ms.ModelSpace(nn.Linear, in_features=4, out_features=2)


class Blind(nn.Linear):
    """It sees nothing of the one input that matters."""

    def forward(self, x):
        return super().forward(torch.cat([torch.zeros_like(x[:, :1]), x[:, 1:]], 1))


class Again(nn.Linear):
    """Linear under another name: the same seed draws another point."""

    def __init__(self, in_features, out_features):
        torch.rand(1)
        super().__init__(in_features, out_features)


def test_the_better_one_is_found_and_the_other_way_round(data, space):
    blind = ms.ModelSpace(Blind, in_features=4, out_features=2)
    found = ms.versus(space, blind, data=data, columns={"lr": [0.01, 0.1]}, tuning=8, **QUICK)
    assert (found.verdict, found.match.better, found.pairs, found.more_pairs) == (
        "A",
        "Linear(in_features=4, out_features=2)",
        32,
        0,
    )
    assert [(c.settings, c.tuned) for c in found.contestants] == [(2, 8), (2, 8)]
    assert found.difference > 0.1
    assert found.metric == "accuracy"
    back = ms.versus(blind, space, data=data, names=["blind", "sees"], columns={"lr": 0.1}, **QUICK)
    assert (back.verdict, back.match.better) == ("B", "sees")
    assert 0 <= back.interval[1] < 0.5


def test_a_pair_s_members_are_what_fit_makes_of_its_seeds_and_its_division(data, space):
    found = ms.versus(
        space, data=data, by="lr", columns={"lr": [0.1, 0.001]}, pairs=3, sequential=False, **QUICK
    )
    for contestant, lr in zip(found.contestants, (0.1, 0.001), strict=True):
        for pair, score in enumerate(contestant.scores):
            seed = 65 + pair  # the first that no member was tuned with
            divided = ms.data.resplit(data, [seed])
            own = ms.data.of_splits(
                *(divided.splits[n].take(slice(None)) for n in ("train", "validation", "test"))
            )
            settings = {name: QUICK[name] for name in ("plan", "epochs", "batch_size")}
            run = ms.fit(space.sample([seed], lr=lr, data_seed=seed), own, **settings)
            assert ms.evaluate(run.population, own)["accuracy"][0] == pytest.approx(score)
    first, second = (np.array(c.scores) for c in found.contestants)
    assert found.difference == pytest.approx((first - second).mean())
    assert found.match.wins == (first > second).sum()


def test_one_and_the_same_is_equal(data, space):
    found = ms.versus(space, space, data=data, names=["a", "b"], **QUICK)
    assert (found.verdict, found.match.ties, found.pairs) == ("equal", 64, 64)
    assert "neither wins 75 % of pairs" in found.said()


@pytest.mark.slow
def test_null_studies_give_a_false_verdict_in_at_most_five_percent(data, space):
    """The same network under another name, which draws other points: 100 studies."""
    again, false = ms.ModelSpace(Again, in_features=4, out_features=2), 0
    for study in range(100):
        populations = [s.sample([study * 1000]) for s in (space, again)]
        found = ms.versus(*populations, data=data, names=["a", "b"], pairs=128, **{**QUICK, "epochs": 1})
        assert found.match.ties < found.pairs
        false += found.verdict in ("A", "B")
    assert false <= 10  # of a binomial of 100 and 0.05, more than 10 have probability 0.011


def test_three_are_judged_together(data, space):
    found = ms.versus(
        space, data=data, by="lr", columns={"lr": [0.1, 0.05, 1e-6]}, pairs=32, sequential=False, **QUICK
    )
    assert [(m.a, m.b) for m in found.matches] == [
        ("lr=0.1", "lr=0.05"),
        ("lr=0.1", "lr=1e-06"),
        ("lr=0.05", "lr=1e-06"),
    ]
    assert {found.match.a, found.match.b} == {"lr=0.1", "lr=0.05"}
    assert [m.better for m in found.matches[1:]] == ["lr=0.1", "lr=0.05"]
    assert "Holm" in found.methods()


def test_without_the_division_all_pairs_share_the_test_samples(data, space):
    found = ms.versus(
        space, data=data, by="lr", columns={"lr": [0.1, 0.05]}, vary=("seed", "data_seed"), pairs=32, **QUICK
    )
    a = found.contestants[0]
    error = 1 - a.distribution.mean
    assert a.test_noise == pytest.approx((error / (2 * len(data.test))) ** 0.5)
    assert 0 <= a.disagreement < 0.3
    assert found.new_data_error is None
    assert found.vary == ("seed", "data_seed")


def test_components_say_which_source_matters(data, space):
    settings = {**QUICK, "components": 5}
    found = ms.versus(space, data=data, by="lr", columns={"lr": [0.1, 1e-6]}, pairs=32, **settings)
    trained, untrained = (c.components for c in found.contestants)
    assert trained.keys() == untrained.keys() == {"seed", "data_seed", "split", "interactions"}
    assert trained["split"][0] > 4 * abs(trained["data_seed"][0])  # 60 test samples, 180 to train on
    assert untrained["seed"][0] > 4 * abs(
        untrained["data_seed"][0]
    )  # what is not trained has no order of its data
    assert found.new_data_error > found.match.error


def test_a_regression_is_judged_by_its_loss():
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(1))
    regression = ms.data.load((x, x[:, :1] * 2))
    space = ms.ModelSpace(nn.Linear, in_features=3, out_features=1)
    found = ms.versus(space, data=regression, by="lr", columns={"lr": [1e-5, 0.1]}, loss="mse", **QUICK)
    assert (found.metric, found.higher_is_better, found.match.better) == ("loss", False, "lr=0.1")
    assert found.difference > 0  # A's loss is the larger
    assert found.test_noise is None


def test_a_run_is_judged_by_any_of_its_columns(data, space):
    run = ms.fit(
        space.sample(8, lr=[0.1, 1e-5], weight_decay=[0.0, 0.1]), data, epochs=2, plan={"compile": False}
    )
    found = run.versus(by="lr")
    scores = run.table.pivot_table("validation_accuracy", "seed", ["lr", "weight_decay"])
    best = {
        lr: max((0.0, 0.1), key=lambda w: (np.quantile(scores[lr, w], 0.5, method="nearest"), -w))
        for lr in (0.1, 1e-5)
    }
    first, second = (scores[lr, best[lr]].to_numpy() for lr in (0.1, 1e-5))
    assert (found.match.wins, found.match.losses) == ((first > second).sum(), (first < second).sum())
    assert [c.settings for c in found.contestants] == [2, 2]
    tested = run.versus(by="lr", data=data)
    assert (tested.split, tested.samples) == ("test", len(data.test))
    other = ms.fit(space.sample(range(4, 12), lr=0.1), data, epochs=2, plan={"compile": False})
    both = run.versus(other, names=["mine", "other"])
    assert both.pairs == 4  # seeds 4 to 7 are in both
    assert ms.versus(run, other, data=data).match.n == 4
    folds = ms.fit(space.sample(2, fold=range(3), lr=[0.1, 1e-5]), data, epochs=1, plan={"compile": False})
    assert folds.versus(by="lr").pairs == 6  # by seed and fold


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "a verdict is between two"),
        ({"by": "lr"}, "unknown column 'lr'"),
        ({"by": "lr", "columns": {"lr": [0.1]}}, "a verdict is between two"),
        ({"columns": {"fold": [0, 1]}, "by": "fold"}, "column fold is no setting"),
        (
            {"by": "lr", "columns": {"lr": [0.1, 1]}, "vary": ("seeds",)},
            "did you mean 'seed'|did you mean seed",
        ),
        ({"by": "lr", "columns": {"lr": [0.1, 1]}, "threshold": 0.4}, "threshold in"),
        ({"by": "lr", "columns": {"lr": [0.1, 1]}, "names": ["a"]}, "2 contestants have as many"),
        ({"by": "loss", "columns": {"loss": ["hinge", "cross_entropy"]}, "metric": "acuracy"}, "accuracy"),
        ({"by": "lr", "columns": {"lr": [0.1, 1]}, "components": 1}, "components"),
    ],
)
def test_mistakes(data, space, arguments, message):
    with pytest.raises(ModelspaceError, match=message):
        ms.versus(space, data=data, **arguments)


def test_contestants_of_other_kinds_are_refused(data, space):
    run = ms.fit(space.sample(2), data, epochs=1, plan={"compile": False})
    with pytest.raises(ModelspaceError, match="runs are compared with runs"):
        ms.versus(run, space, data=data)
    with pytest.raises(ModelspaceError, match="a contestant is a Linear"):
        ms.versus(nn.Linear(4, 2), space, data=data)
    with pytest.raises(ModelspaceError, match="unknown column"):
        run.versus(by="lr")
    with pytest.raises(ModelspaceError, match="no seed in common"):
        run.versus(ms.fit(space.sample([7]), data, epochs=1, plan={"compile": False}))


def test_a_verdict_as_text_page_and_tables(data, space, tmp_path):
    settings = {**QUICK, "components": 2}
    found = ms.versus(
        space, data=data, by="lr", columns={"lr": [0.1, 1e-6]}, names=["<b>a|&_", "b"], pairs=32, **settings
    )
    assert "not separable" not in repr(found)
    for text in (found.markdown(), found.latex(), found.methods(), found._repr_html_()):
        assert "32" in text
    assert "\\|" in found.markdown()
    assert r"$<$b$>$a|\&\_" in found.latex()
    assert "<b>a" not in found._repr_html_()
    assert list(found.table.index) == ["<b>a|&_", "b"]
    found.report(tmp_path / "verdict.html")
    page = (tmp_path / "verdict.html").read_text()
    assert "<b>a" not in page.replace("\\u003cb\\u003ea", "")
    assert "For a paper" in page
    assert isinstance(found, Verdict)


def test_the_command_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n\ndef Net(width=8):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), "
        "nn.ReLU(), nn.Linear(width, 10))\n"
    )
    monkeypatch.chdir(tmp_path)
    words = (
        "versus nets.py:Net --by model.width --model.width 1,24 --data digits --lr 1e-2 --epochs 1 --pairs 32"
    )
    quick = [*words.split(), "--components", "0", "--plan", "vmap"]
    assert main([*quick, "--json", "--out", "v"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["pairs"], found["more_pairs"]) == ("B", 32, 0)
    assert found["interval"][1] < 0.5
    assert found["test_noise"] > 0 < found["seed_noise"]
    assert json.loads((tmp_path / "v" / "verdict.json").read_text()) == found
    assert "width=24" in (tmp_path / "v" / "report.html").read_text()
    assert main([*quick[:-4], "--plan", "vmap", "--components", "0", "--table", "latex"]) == 0
    assert r"\toprule" in capsys.readouterr().out
    assert main(["versus", "nets.py:Net", "--data", "digits"]) == 2
    assert "a verdict is between two" in capsys.readouterr().err
    same = [
        "versus",
        "nets.py:Net",
        "nets.py:Net",
        "--data",
        "digits",
        "--pairs",
        "8",
        "--epochs",
        "1",
        "--all-pairs",
    ]
    assert main([*same, "--components", "0", "--plan", "vmap", "--names", "a,b"]) == 1
    assert "more pairs would tell" in capsys.readouterr().out
