"""The catalogue in the terminal: filtered, one in full, several side by side, drawn; mistakes are one line."""

import builtins
import json
import math
import sys

import pytest
from rich.cells import cell_len
from support.commands import printed, refused

from modelspace.losses import CATALOGUE, KINDS, table


def listed(text):
    """The losses that a printed catalogue has a line for."""
    return [line.split()[0] for line in text.splitlines() if line and line.split()[0] in CATALOGUE]


def test_the_catalogue_has_each_loss_once_by_kind_in_100_columns(capsys):
    text = printed(capsys, "losses")
    assert listed(text) == list(CATALOGUE)
    titles = [
        line.split()[0]
        for line in text.splitlines()
        if line.rstrip().endswith(")") and line.split()[0] in KINDS
    ]
    assert titles == list(KINDS)
    assert max(map(cell_len, text.splitlines())) <= 100
    assert f"{len(CATALOGUE)} losses" in text


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (
            ("--kind", "margin", "--convex", "--calibrated"),
            {"kind": "margin", "convex": True, "calibrated": True},
        ),
        (("--no-convex", "--bounded"), {"convex": False, "bounded": True}),
        (("--labels", "class", "--proper"), {"labels": "class", "proper": True}),
        (
            ("--outputs", "score", "--no-smooth", "--lipschitz"),
            {"outputs": "score", "smooth": False, "lipschitz": True},
        ),
    ],
)
def test_filters_are_those_of_the_table(capsys, words, asked):
    expected = list(table(**asked).index)
    assert expected
    assert listed(printed(capsys, "losses", *words)) == expected
    assert [
        each["name"] for each in json.loads(printed(capsys, "losses", *words, "--json"))["losses"]
    ] == expected


def test_nothing_as_asked_is_said(capsys):
    assert "no loss of the catalogue is as asked" in printed(
        capsys, "losses", "--kind", "regression", "--proper"
    )


def test_json_is_strict_and_has_every_property(capsys):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads(printed(capsys, "losses", "--json"), parse_constant=refuse)["losses"]
    assert [each["name"] for each in found] == list(CATALOGUE)
    for each in found:
        known = CATALOGUE[each["name"]].properties
        assert each["formula"] == known.formula
        assert each["convex"] is known.convex
        for name in ("lipschitz", "smooth", "bound"):
            value = getattr(known, name)
            assert each[name] == ("inf" if value == math.inf else value)
    focal = next(each for each in found if each["name"] == "focal")
    assert focal["parameters"] == [{"name": "gamma", "default": 2.0, "range": "a number of at least 0"}]


@pytest.mark.parametrize("name", CATALOGUE)
def test_one_loss_in_full(capsys, name):
    text = printed(capsys, "losses", name)
    assert text.startswith(f"{name}\n")
    assert max(map(len, text.splitlines())) <= 110
    words, known = text.split(), CATALOGUE[name].properties
    assert "".join(known.formula.split()) in "".join(words)
    assert "".join(known.source.split()) in "".join(words)
    for parameter in CATALOGUE[name].hyperparameters():
        assert parameter in words


def test_one_loss_has_its_curve_and_its_words(capsys):
    text = printed(capsys, "losses", "logistic")
    assert "value over the margin v = y·z" in text
    assert "slope over the margin v = y·z" in text
    assert "yes: whoever minimises it knows the probabilities" in text
    assert "−1 or +1" in text
    assert "value over" not in printed(capsys, "losses", "gaussian")


def test_several_stand_side_by_side(capsys):
    lines = printed(capsys, "losses", "logistic", "hinge").splitlines()
    assert lines[0].split() == ["logistic", "hinge"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert rows["Lipschitz"] == ["1", "1"]
    assert rows["smooth"] == ["0.25", "∞"]
    assert rows["proper"] == ["yes", "–"]
    assert max(map(len, lines)) <= 100


def test_plots_are_written(capsys, tmp_path):
    text = printed(capsys, "losses", "logistic", "hinge", "--plot", tmp_path / "margins.html")
    assert f"written: {tmp_path}/margins.html" in text
    page = (tmp_path / "margins.html").read_text(encoding="utf-8")
    assert page.count('"name":"logistic"') == page.count('"name":"hinge"') == 3
    assert "<script src=" not in page
    printed(capsys, "losses", "--kind", "margin", "--plot", tmp_path / "m.png", "--json")
    assert (tmp_path / "m.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_picture_needs_matplotlib(capsys, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **more)

    for name in [n for n in sys.modules if n.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    message = refused(capsys, "losses", "hinge", "--plot", tmp_path / "m.png")
    assert "pip install matplotlib, or write FILE.html" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("logistik",), "unknown loss 'logistik': did you mean 'logistic'?"),
        (("--kind", "margins"), "unknown kind of loss 'margins': did you mean 'margin'?"),
        (("--labels", "clas"), "did you mean 'class'?"),
        (("hinge", "--convex"), "names choose losses and so does --convex"),
        (("hinge", "huber", "--plot", "x.html"), "no axis in common"),
        (("gaussian", "--plot", "x.html"), "'gaussian' has no curve"),
        (("hinge", "--plot", "x.bmp"), "a figure's name ends in .html, .png, .svg, .pdf; received x.bmp"),
        (("--conwex",), "unknown argument '--conwex'"),
    ],
)
def test_mistakes_are_one_line(capsys, words, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in refused(capsys, "losses", *words)
    assert list(tmp_path.iterdir()) == []


def test_the_help_teaches(capsys):
    from modelspace.cli import main

    with pytest.raises(SystemExit, match="0"):
        main(["losses", "--help"])
    text = capsys.readouterr().out
    assert "examples:" in text
    for word in ("convex", "Lipschitz", "smooth", "calibrated", "proper", *KINDS):
        assert word in text


def test_fit_puts_the_comparison_on_its_page_and_in_its_summary(capsys, tmp_path):
    out = tmp_path / "run"
    words = (
        "--data",
        "digits-7x7",
        "--seeds",
        2,
        "--epochs",
        1,
        "--loss",
        "logistic,hinge",
        "--label-noise",
        "0,0.4",
    )
    printed(capsys, "fit", "examples/dummynet.py:DummyNet", *words, "--out", out)
    found = json.loads((out / "summary.json").read_text(encoding="utf-8"))["report"]["losses"]
    assert found["problem"] is None
    assert found["comparison"]["split"] == "test"
    assert [each["loss"] for each in found["comparison"]["results"]] == ["logistic", "hinge"]
    assert len(found["comparison"]["noise"]) == 4
    assert "Losses on equal terms" in (out / "report.html").read_text(encoding="utf-8")
