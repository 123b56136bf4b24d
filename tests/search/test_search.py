import json
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import modelspace as ms
from modelspace.data import Data, Split
from modelspace.errors import ModelspaceError
from modelspace.search import hunt as module

pytest.importorskip("optuna", reason="Optuna suggests: pip install 'torch-modelspace[search]'")
PLAN = {"lowering": "vmap", "shard": 64, "compile": False, "threads": 1, "workers": 1}
FAST = {
    "trials": 6,
    "batch": 3,
    "alike": 2,
    "seeds": 2,
    "race": 4,
    "fresh_seeds": 3,
    "epochs": 2,
    "batch_size": 30,
    "plan": PLAN,
}


class Net(nn.Module):
    def __init__(self, width=4, heads=1):
        super().__init__()
        if width % heads:
            raise ValueError("heads must divide the width")
        self.net = nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, 3))

    def forward(self, x):
        return self.net(x)


def separable():
    """Data on which the learning rate matters."""
    generator = torch.Generator().manual_seed(0)

    def split(samples):
        labels = torch.randint(3, (samples,), generator=generator)
        inputs = torch.randn(samples, 6, generator=generator)
        inputs[torch.arange(samples), labels] += 2
        return Split(inputs, labels)

    return Data("separable", split(60), split(60), split(60))


OVER = {
    "lr": (1e-4, 1.0),
    "width": [2, 8],
    "optimizer": {"adam": {}, "sgd": {"momentum": (0.5, 0.9, "linear")}},
}


def space():
    return ms.ModelSpace(Net, input_shape=(6,))


def searched(given=None, over=None, data=None, **settings):
    return ms.search(given or space(), data or separable(), over=over or OVER, **{**FAST, **settings})


def same(a, b):
    pd.testing.assert_frame_equal(a.table, b.table)
    pd.testing.assert_frame_equal(a.fresh.table, b.fresh.table)
    assert a.best == b.best


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return searched(out=tmp_path_factory.mktemp("search") / "a")


def test_a_member_s_score_is_that_of_a_plain_fit(found):
    for number in (0, 4):
        trial = found.trials[number]
        run = ms.fit(
            space().sample(2, **{n: [v] for n, v in trial.setting.items()}),
            separable(), epochs=2, batch_size=30, plan=PLAN,
        )  # fmt: skip
        assert [trial.scores[0], trial.scores[1]] == pytest.approx(run.table["validation_accuracy"].tolist())


def test_the_table_says_what_was_tried(found):
    table = found.table
    assert list(table.columns[:4]) == ["lr", "width", "optimizer", "momentum"]
    assert (table["momentum"].notna() == (table["optimizer"] == "sgd")).all()
    assert table["parameters"].tolist() == [6 * w + w + 3 * w + 3 for w in table["width"]]
    assert table["flops"].notna().all()
    assert (table["seeds"] >= 2).all()
    assert len(found.members) == table["seeds"].sum()
    means = found.members.groupby("trial")["score"].mean()
    assert np.allclose(means, table["score"])
    assert found.validation == table["score"][found.contenders[0]]
    assert repr(found).splitlines()[0].startswith("search of Net on separable: 6 settings (6 finished) of ")
    assert "<table" in found._repr_html_()


def test_the_winner_is_confirmed_on_fresh_seeds(found):
    fresh = found.fresh.population.table
    used = {seed for trial in found.trials for seed in trial.scores}
    assert len(fresh) == 3
    assert not used & {*fresh["seed"]}
    assert {name: fresh[name][0] for name in found.best} == found.best
    test = separable().test
    scores = [
        float((module.eval()(test.inputs).argmax(1) == test.labels).double().mean())
        for module in found.fresh.population.modules()
    ]
    assert found.distribution.mean == pytest.approx(np.mean(scores))
    seen = found.fresh.table["validation_accuracy"]
    assert found.curse["validation"] == pytest.approx(found.validation - seen.mean())
    assert found.curse["test"] == pytest.approx(found.validation - np.mean(scores))
    assert found.curse["error"] == pytest.approx(seen.std() / 3**0.5)


def test_the_search_never_sees_the_test_split(found):
    data = separable()
    inverted = Data("x", data.train, data.validation, Split(-data.test.inputs, data.test.labels.flip(0)))
    assert searched(data=inverted).best == found.best


def test_the_same_call_is_the_same_search_and_goes_on_from_its_folder(found, monkeypatch):
    same(found, searched())
    fits, original = [], module.fit
    monkeypatch.setattr(module, "fit", lambda *a, **k: fits.append(k["out"]) or original(*a, **k))
    same(found, searched(out=found.fresh.folder.parent))
    assert len(fits) == 1  # which holds the call against the folder
    more = searched(out=found.fresh.folder.parent, trials=9)
    assert more.table["lr"].tolist()[:6] == found.table["lr"].tolist()
    assert len(more.trials) == 9
    data = separable()
    with pytest.raises(ModelspaceError, match=r"holds another run: .*samples"):
        searched(out=found.fresh.folder.parent, data=replace(data, train=data.validation))


@pytest.mark.parametrize("stop", ["halving", pytest.param("median", marks=pytest.mark.slow)])
def test_who_goes_on_goes_on_from_where_it_was(stop, tmp_path):
    settings = {"stop": stop, "reduction": 4, "rungs": 2, "epochs": 8, "batch": 4, "trials": 8, "race": 1}
    found = searched(**settings, out=tmp_path)
    same(found, searched(**settings, out=tmp_path))
    states = found.table["state"]
    assert set(states) == {"finished", "stopped"}
    assert (found.table["epochs"] == np.where(states == "finished", 8, 2)).all()
    trial = next(t for t in found.trials if t.state == "finished")
    population = space().sample(2, **{n: [v] for n, v in trial.setting.items()})
    run = ms.fit(population, separable(), epochs=8, batch_size=30, plan=PLAN)
    assert [*trial.scores.values()] == pytest.approx(run.table["validation_accuracy"].tolist())


@pytest.mark.slow
def test_a_family_says_what_is_over_budget_and_what_can_t_be_built():
    family = ms.Family(Net, width=[2, 4, 8], heads=[1, 2, 4], input_shape=(6,))
    found = searched(family, {"lr": [0.1, 0.01]}, parameters=50, sampler="random", trials=8, race=1)
    assert set(found.table["width"]) <= {2, 4}
    assert (found.table["width"] % found.table["heads"] == 0).all()
    assert found.refused > 0
    assert (found.table["parameters"] == 10 * found.table["width"] + 3).all()
    with pytest.raises(
        ModelspaceError,
        match=r"within parameters=10 in \d+ suggestions: the least parameters among .* are 23",
    ):
        searched(family, {"lr": [0.1]}, parameters=10, sampler="random")


@pytest.mark.parametrize("budget", ["flops", pytest.param("memory", marks=pytest.mark.slow)])
def test_a_budget_is_of_one_space_s_variants_too(budget):
    least = space().variant(width=2).anatomy()
    most = {"flops": least.forward_flops + least.backward_flops, "memory": least.peak_bytes}[budget]
    found = searched(trials=2, race=1, sampler="random", **{budget: most})
    assert set(found.table["width"]) == {2}
    assert (found.table[budget] == most).all()


@pytest.mark.slow
def test_the_front_is_what_no_other_beats():
    found = searched(over={"lr": (1e-3, 1.0), "width": (1, 12)}, goals=("score", "parameters"), trials=10)
    front, table = found.front(), found.table
    for i, row in table.iterrows():
        better = table[(table["score"] >= row["score"]) & (table["parameters"] <= row["parameters"])]
        beaten = ((better["score"] > row["score"]) | (better["parameters"] < row["parameters"])).any()
        assert (i in front.index) or beaten or len(better) > 1
        assert not (i in front.index and beaten)
    assert front["parameters"].is_monotonic_increasing
    assert front["score"].is_monotonic_increasing
    with pytest.raises(ModelspaceError, match="the memory of these settings are not known"):
        found.front("memory")


def test_losses_and_regression():
    found = searched(over={"loss": ["cross_entropy", "brier"], "lr": (1e-2, 0.1)}, trials=4, race=1)
    assert set(found.table["loss"]) <= {"cross_entropy", "brier"}
    case = separable()
    labelled = {n: Split(p.inputs, p.inputs[:, :1] * 2) for n, p in case.splits.items()}
    data = Data("line", labelled["train"], labelled["validation"], labelled["test"])
    net = ms.ModelSpace(nn.Linear, in_features=6, out_features=1, input_shape=(6,))
    found = ms.search(net, data, over={"lr": [1e-4, 0.3]}, loss="mse", **{**FAST, "trials": 2})
    assert (found.metric, found.best) == ("loss", {"lr": 0.3})
    assert found.curse["test"] == pytest.approx(found.distribution.mean - found.validation)
    with pytest.raises(
        ModelspaceError, match="losses can't be chosen among by their own values: search takes"
    ):
        ms.search(net, data, over={"loss": ["mse", "huber"]}, **FAST)


REFUSED = [
    ({"over": {}}, "nothing to choose: over="),
    ({"trials": 0}, "trials must be at least 1; received 0"),
    ({"fresh_seeds": 1}, "at least 2 fresh seeds; received 1"),
    ({"goals": ["parameters"]}, "goals are score and costs"),
    ({"goals": ["scores"]}, "did you mean 'score'"),
    ({"goals": ["score", "flops"], "stop": "median"}, "with several nobody is stopped"),
    ({"given": ms.ModelSpace(Net), "flops": 9}, "the flops of Net are not known: give it input_shape="),
    ({"fresh": True}, "give another one, not fresh=True"),
    ({"over": {"lr": [1e300]}}, "all 1 settings diverged"),
    ({"over": {"momentun": [0.5, 0.9]}}, "momentun"),
]


@pytest.mark.parametrize(("settings", "said"), REFUSED, ids=[str(s) for s, _ in REFUSED])
def test_what_a_search_needs_is_said(settings, said):
    settings = {"given": space(), "over": OVER, **FAST, **settings}
    with pytest.raises(ModelspaceError, match=said):
        ms.search(settings.pop("given"), separable(), **settings)


def test_what_optuna_is_for_is_said_without_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ModelspaceError, match=r"pip install 'torch-modelspace\[search\]'"):
        searched()


def test_damaged_notes_are_named(tmp_path):
    (tmp_path / "search.json").write_text('{"batch-000": {"seconds": "long"}}')
    with pytest.raises(ModelspaceError, match=r"search\.json is damaged"):
        searched(out=tmp_path)


def test_figures_and_page(found, tmp_path):
    kinds = ("history", "slice", "contour", "parallel", "front")
    assert all(found.plot(kind).data for kind in kinds)
    varied = [name for name in ("lr", "width", "optimizer", "momentum") if found.table[name].nunique() > 1]
    assert len(found.plot("slice").data) == len(varied) >= 2
    assert found.plot("contour", x="lr", y="width").layout.xaxis.title.text == "log₁₀ lr"
    found.plot("history", tmp_path / "history.html")
    found.report(tmp_path / "search.html")
    for name in ("history.html", "search.html"):
        assert "plotly" in (tmp_path / name).read_text("utf-8")
    with pytest.raises(ModelspaceError, match="did you mean 'slice'"):
        found.plot("slices")
    with pytest.raises(ModelspaceError, match="did you mean 'width'"):
        found.plot("contour", x="widht")


LONG = {"trials": 12, "batch": 4, "stop": "halving", "reduction": 2, "rungs": 2, "epochs": 4, "race": 8}
KILLED = """
import sys
sys.path.insert(0, {tests!r})
from search.test_search import LONG, searched
print("ready", flush=True)
searched(out={out!r}, **LONG)
"""


@pytest.mark.slow
def test_a_search_cut_short_after_any_fit_ends_with_the_same_table(tmp_path, monkeypatch):
    """Fits survive by themselves (tests/runs/test_killed.py); here the search is cut between any two of them."""
    settings = {"stop": "halving", "reduction": 2, "rungs": 2, "trials": 4, "batch": 2}
    whole, original = searched(**settings), module.fit
    cut = 0
    while True:
        left = [1 + cut % 2]

        def stopping(*given, left=left, **own):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return original(*given, **own)

        monkeypatch.setattr(module, "fit", stopping)
        try:
            found = searched(**settings, out=tmp_path)
            break
        except KeyboardInterrupt:
            cut += 1
    assert cut >= 2
    same(whole, found)


@pytest.mark.slow
def test_killed_fifty_times_a_search_ends_with_the_same_table(tmp_path):
    """Killed at random moments after its imports, in which nothing can be lost; each time it goes on from there."""
    script = KILLED.format(tests=str(Path(__file__).parents[1]), out=str(tmp_path / "a"))
    drawn, whole = random.Random(0), 0
    for _ in range(50):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(drawn.uniform(0, 1.5))
        whole += process.poll() is not None
        process.kill()
        process.wait()
        process.stdout.close()
    assert whole < 25
    same(searched(**LONG), searched(**LONG, out=tmp_path / "a"))


def test_notes_hold_what_is_needed_and_no_more(found):
    notes = json.loads((found.fresh.folder.parent / "search.json").read_text())
    members = sum(len(note["scores"]) for key, note in notes.items())
    assert members >= found.table["seeds"].sum()
