"""The section on losses: in the record and its JSON, on the page without scripts, in pictures."""

import dataclasses
import json
import re

import pytest
import torch
from support.pages import HOSTILE, Reader
from torch import nn

import modelspace as ms
from modelspace.compare import compare_losses
from modelspace.errors import ModelspaceError
from modelspace.report import ReportRecord, curves_figure, record_of_exploration, record_of_run
from modelspace.report import _canvas as canvas
from modelspace.report import _losses as drawing
from modelspace.report._page import page
from modelspace.report._words import choice_remarks, verdict

NAMES = ["cross_entropy", "logistic", "hinge"]


def classes():
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(160, 4, generator=generator)
    return ms.data.load((inputs, (inputs @ torch.randn(4, 3, generator=generator)).argmax(1)))


@pytest.fixture(scope="module")
def run():
    space = ms.ModelSpace(nn.Linear, in_features=4, out_features=3, input_shape=(4,))
    return ms.fit(space.sample(seeds=3, loss=NAMES, label_noise=[0.0, 0.4], lr=[0.03]), classes(), epochs=3)


@pytest.fixture(scope="module")
def record(run):
    return record_of_run(run, data=classes(), command="modelspace fit net.py:Net --loss logistic,hinge")


@pytest.fixture(scope="module")
def read(record):
    return Reader(page(record))


def test_the_record_holds_the_comparison_and_json_gives_it_back(run, record):
    assert record.losses.comparison == compare_losses(run, classes())
    assert record.losses.problem is None
    assert [c.loss for c in record.losses.curves] == NAMES
    assert [c.line for c in record.losses.curves] == ["two classes", "margin", "margin"]
    again = ReportRecord.from_json(record.to_json())
    assert again == record
    assert page(again) == page(record)


def test_a_record_written_before_there_were_losses_is_read(record):
    plain = json.loads(record.to_json())
    del plain["losses"]
    assert ReportRecord.from_plain(plain) == dataclasses.replace(record, losses=None)
    plain = json.loads(record.to_json())
    plain["losses"]["comparison"]["results"][1]["accuracy"]["mean"] = "high"
    with pytest.raises(
        ModelspaceError, match=r"losses\.comparison\.results\[1\]\.accuracy\.mean is 'high'; .* float"
    ):
        ReportRecord.from_plain(plain)


def test_the_section_reads_without_scripts(record, read):
    assert [2, "Losses on equal terms"] in read.headings
    found = record.losses.comparison
    rows = read.table("Each loss, on the test split")
    assert [row[0] for row in rows[1:]] == NAMES
    accuracy = found.results[0].accuracy
    assert f"{100 * accuracy.mean:.2f} ± {100 * accuracy.sd:.2f} %" in rows[1]
    assert len(read.table("A against B over the same seeds")) == 1 + 3
    assert [row[0] for row in read.table("Accuracy by seed and loss")] == ["seed", "0", "1", "2"]
    assert read.table("Quantiles of the margin")[0][-1] == "below 0"
    assert [row[0] for row in read.table("Expected calibration error")[1:]] == NAMES[:2]
    assert len(read.table("Accuracy against label noise")) == 1 + 6
    values = read.table("Value over the margin v = y·z")
    assert values[0] == ["margin v = y·z", "logistic", "hinge"]
    assert {row[0]: row[2] for row in values}["−3"] == "4"
    assert any(t["caption"].startswith("Curvature over the margin z_y") for t in read.tables)


def test_every_figure_has_its_place_and_its_caption(read):
    figures = {a["data-figure"] for a, _ in read.scripts if a.get("type") == "application/json"}
    expected = {"accuracy", "margins", "reliability", "noise", "curves-margin", "curves-two-classes"}
    assert {f"plot-losses-{name}" for name in expected} <= figures
    assert read.open == read.unclosed == []
    ids = [a["id"] for _, a in read.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert "losses" in {a.get("href", "")[1:] for t, a in read.elements if t == "a"}


def test_pictures_are_of_the_record_s_numbers(record):
    found = record.losses.comparison
    dots = [t for t in drawing.accuracy_figure(found).data if t.name == "one seed"]
    assert [list(t.x) for t in dots] == [list(each.accuracies) for each in found.results]
    bars = drawing.margins_figure(found).data
    for bar, each in zip(bars, found.results, strict=True):
        share = sum(y for y, c in zip(bar.y, bar.marker.color, strict=True) if c == canvas.LIGHT["bad"])
        assert share == pytest.approx(each.margins.below_zero, abs=0.02)
        assert sum(bar.y) == pytest.approx(1)
    perfect, *curves = drawing.reliability_figure(found).data
    assert list(perfect.x) == list(perfect.y) == [0, 1]
    assert [c.name for c in curves] == NAMES[:2]
    noise = {t.name: list(t.y) for t in drawing.noise_figure(found).data}
    assert noise["hinge"] == [e.accuracy.mean for e in found.noise if e.loss == "hinge"]


def test_curves_are_drawn_as_they_are_and_jumps_are_gaps():
    figure = ms.losses.plot("hinge", "logistic")
    value, slope, curvature = (t for t in figure.data if t.name == "hinge")
    assert value.y[0] == 4.0
    assert set(slope.y) - {None} == {-1.0, 0.0}
    assert 1 <= list(slope.y).count(None) <= 2
    assert set(curvature.y) == {0.0}
    assert [figure.layout[f"yaxis{i}"].title.text for i in ("", 2, 3)] == [
        "value φ",
        "slope φ′",
        "curvature φ″",
    ]
    residual = ms.losses.plot("huber")
    assert residual.layout.xaxis.title.text == "residual z − y"
    with pytest.raises(ModelspaceError, match="no axis in common"):
        ms.losses.plot("huber", "hinge")


def test_one_loss_s_explosion_does_not_flatten_the_others():
    low, high = ms.losses.plot("exponential", "hinge", "logistic").layout.yaxis.range
    assert 4 <= high < 12
    assert low <= 0


def test_all_colours_have_a_dark_counterpart(record):
    assert set(canvas.LIGHT) == set(canvas.DARK)
    assert len(set(canvas.LIGHT.values())) == len(canvas.LIGHT)
    found = record.losses.comparison
    names = ("accuracy", "margins", "reliability", "noise")
    drawn = [getattr(drawing, f"{name}_figure")(found) for name in names]
    many = [
        n for n, loss in ms.losses.CATALOGUE.items() if isinstance(loss, type(ms.losses.Hinge()).__mro__[1])
    ]
    for figure in [*drawn, ms.losses.plot(*many)]:
        colours = set(re.findall(r'"(#[0-9a-f]{6}|rgba?\([^)]*\))"', figure.to_json()))
        assert colours <= {*canvas.LIGHT.values(), "rgba(0,0,0,0)"}


def test_more_losses_than_colours_differ_in_their_stroke():
    shown = [(canvas.colour(i), canvas.dash(i)) for i in range(14)]
    assert len(set(shown)) == 14


def test_label_noise_is_a_condition_and_no_choice(record):
    assert record.best is not None
    noise = record.columns.index("label_noise")
    assert record.response[record.best].values[noise].number == 0.0
    assert [record.columns[i] for i in record.chosen_among] == ["loss"]
    assert not any("label_noise" in remark and "tried" in remark for remark in choice_remarks(record))
    assert "the best of 3 settings" in verdict(record)[0]


def test_values_of_several_losses_choose_nothing():
    generator = torch.Generator().manual_seed(0)
    data = ms.data.load((torch.randn(60, 3, generator=generator), torch.randn(60, 1, generator=generator)))
    space = ms.ModelSpace(nn.Linear, in_features=3, out_features=1, input_shape=(3,))
    run = ms.fit(space.sample(seeds=2, loss=["huber", "absolute"], delta=[0.5, 1.0]), data, epochs=1)
    record = record_of_run(run, data=data)
    assert record.best is None
    assert record.scores is None
    assert record.losses.comparison is None
    assert "compared as classifiers" in record.losses.problem
    assert [c.loss for c in record.losses.curves] == ["huber(delta=0.5)", "huber", "absolute"]
    read = Reader(page(record))
    assert read.table("Value over the residual z − y")[0] == [
        "residual z − y",
        "huber(delta=0.5)",
        "huber",
        "absolute",
    ]
    text = page(record)
    assert "values of different losses can’t be ranked" in text
    assert "under several losses, whose values are no one score" in verdict(record)[0]
    assert ReportRecord.from_json(record.to_json()) == record


def test_without_data_or_points_it_is_the_run_s_own_validation(run):
    assert record_of_run(run).losses.comparison.split == "validation"
    space = run.space
    few = ms.fit(space.sample(seeds=3, loss=NAMES), classes(), epochs=1, keep=1)
    found = record_of_run(few, data=classes()).losses.comparison
    assert found.split == "validation"
    read = Reader(page(record_of_run(few)))
    assert len(read.table("Each loss, on the validation split")) == 1 + 3


def test_a_run_without_the_column_has_no_section():
    space = ms.ModelSpace(nn.Linear, in_features=4, out_features=3, input_shape=(4,))
    record = record_of_run(ms.fit(space.sample(seeds=2), classes(), epochs=1), data=classes())
    assert record.losses is None
    assert "Losses on equal terms" not in [h for _, h in Reader(page(record)).headings]


def test_an_exploration_compares_its_sweep_on_validation():
    space = ms.ModelSpace(nn.Linear, in_features=4, out_features=3, input_shape=(4,))
    found = ms.explore(
        space, classes(), seeds=2, columns={"loss": NAMES}, fresh_seeds=2, epochs=1, ground=False
    )
    record = record_of_exploration(found)
    assert record.losses.comparison.split == "validation"
    assert record.losses.comparison.results[0].margins is not None


def test_every_user_s_string_is_only_text(record):
    found = record.losses.comparison
    results = tuple(
        dataclasses.replace(each, loss=f"{HOSTILE}{i}", setting=HOSTILE, seeds=(HOSTILE, "<b>1</b>", "2"))
        for i, each in enumerate(found.results)
    )
    hostile = dataclasses.replace(
        found,
        data=HOSTILE,
        results=results,
        pairs=tuple(dataclasses.replace(p, a=HOSTILE, b=HOSTILE) for p in found.pairs),
        noise=tuple(dataclasses.replace(e, loss=HOSTILE, setting=HOSTILE) for e in found.noise),
    )
    curves = tuple(dataclasses.replace(c, loss=f"{HOSTILE}{i}") for i, c in enumerate(record.losses.curves))
    losses = dataclasses.replace(record.losses, comparison=hostile, curves=curves)
    read = Reader(page(dataclasses.replace(record, losses=losses)))
    assert read.open == read.unclosed == []
    assert [t for t, _ in read.elements].count("img") == 0
    assert len([s for a, s in read.scripts if "type" not in a]) == 2
    for attributes, source in read.scripts:
        if attributes.get("type") == "application/json":
            assert "<" not in source
            assert "<script" not in json.dumps(json.loads(source))
            assert "<b>" not in json.dumps(json.loads(source))
    assert curves_figure(curves).data[0].name.startswith("&lt;/script&gt;")
