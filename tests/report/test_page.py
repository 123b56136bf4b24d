"""The page: it needs no network and no scripts, and no user's string is more than text."""

import base64
import dataclasses
import hashlib
import json
import re
from itertools import pairwise

import pytest
import torch
from support.pages import HOSTILE, Reader
from torch import nn

import modelspace as ms
from modelspace.errors import ModelspaceError
from modelspace.report import (
    ReportRecord,
    record_of_exploration,
    record_of_run,
    write_exploration,
    write_record,
    write_run,
)
from modelspace.report import _canvas as canvas
from modelspace.report import _figures as drawing
from modelspace.report._page import page
from modelspace.report._record import Value


def data(name="blobs"):
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(90, 4, generator=generator)
    loaded = ms.data.load((inputs, (inputs[:, 0] > 0).long() + (inputs[:, 1] > 0).long()))
    return dataclasses.replace(loaded, name=name)


@pytest.fixture(scope="module")
def exploration():
    space = ms.ModelSpace(nn.Linear, in_features=4, out_features=3, input_shape=(4,))
    columns = {"lr": [1e-3, 1e-2, 1e-1], "weight_decay": [0.0, 0.1]}
    return ms.explore(space, data(), seeds=4, columns=columns, fresh_seeds=6, epochs=2)


@pytest.fixture(scope="module")
def record(exploration):
    return record_of_exploration(exploration, command="modelspace explore net.py:Net --lr 1e-3,1e-2")


@pytest.fixture(scope="module")
def text(record):
    return page(record)


@pytest.fixture(scope="module")
def read(text):
    return Reader(text)


def test_nothing_is_loaded(read, text):
    for tag, attributes in read.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "video", "audio", "form")
        assert "src" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        if "href" in attributes:
            assert tag == "a"
            assert attributes["href"].startswith("#")
    outside = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"https?://|url\(|@import", outside)


def test_plotly_is_inlined_once(read, text):
    sizes = sorted((len(source) for _, source in read.scripts), reverse=True)
    assert sizes[0] > 1_000_000 > 100_000 > sizes[1]
    assert text.count("plotly.js v") == 1


def test_the_policy_allows_these_scripts_alone(read):
    (policy,) = (a["content"] for t, a in read.elements if a.get("http-equiv") == "Content-Security-Policy")
    programs = [source for attributes, source in read.scripts if "type" not in attributes]
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in programs]
    assert "script-src " + " ".join(f"'sha256-{h}'" for h in hashes) + ";" in policy
    assert policy.startswith("default-src 'none';")


def test_elements_are_closed_and_named(read):
    assert read.open == read.unclosed == []
    ids = [a["id"] for _, a in read.elements if "id" in a]
    assert len(ids) == len(set(ids))
    linked = {a["href"][1:] for t, a in read.elements if t == "a"}
    assert linked <= set(ids)
    labelled = {a["aria-labelledby"] for _, a in read.elements if "aria-labelledby" in a}
    assert labelled <= set(ids)
    assert [t for t, _ in read.elements if t in ("header", "nav", "main", "footer")] == [
        *("header", "nav", "main", "footer")
    ]
    assert all(a.get("aria-label") for _, a in read.elements if a.get("role") in ("img", "region"))


def test_headings_do_not_skip_a_level(read):
    levels = [level for level, _ in read.headings]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    assert read.headings[0][1] == "Linear(in_features=4, out_features=3)"


def test_every_table_has_a_caption_and_even_rows(read):
    assert len(read.tables) > 8
    for table in read.tables:
        assert table["caption"].strip()
        assert len({len(row) for row in table["rows"]}) == 1


def test_every_figure_s_json_is_drawable_and_its_place_is_there(read):
    figures = [(a, json.loads(source)) for a, source in read.scripts if a.get("type") == "application/json"]
    ids = {a["id"] for t, a in read.elements if t == "div" and "id" in a}
    # Map, two responses, scores, confusion, three curves, path; surface, contour and barriers of the ground.
    assert len(figures) == 12
    assert {a["data-figure"] for a, _ in figures} == ids
    assert all(figure["data"] for _, figure in figures)


def test_it_reads_without_scripts(read, exploration):
    d = exploration.distribution
    head, row = read.table("Distribution over fresh seeds; 0 of 6 diverged")[:2]
    cells = dict(zip(head, row, strict=True))
    assert cells["score"] == "test accuracy"
    assert (cells["n"], cells["mean"], cells["SD"]) == (
        "6",
        f"{100 * d.mean:.2f} %",
        f"{100 * d.sd:.2f} points",
    )
    assert (cells["25 %"], cells["median"]) == (f"{100 * d.q1:.2f} %", f"{100 * d.median:.2f} %")
    settings = read.table("All settings")
    assert len(settings) == 1 + 6
    assert [row[1] for row in settings[1:]] == ["0", "0.1"] * 3
    medians = [r[settings[0].index("median")] for r in settings[1:]]
    assert medians == [f"{100 * m:.2f} %" for m in exploration.response["median"]]
    assert sum("(chosen)" in r[0] for r in settings) == 1


def test_the_training_curves_read_without_scripts(read, exploration):
    rows = read.table("Train loss, fresh seeds")
    assert [row[0] for row in rows[1:]] == ["1", "2"]
    assert all(row[1] == "6" for row in rows[1:])


def test_the_mean_is_the_headline_and_the_best_seed_is_not(text, exploration):
    verdict = re.search(r'<p class="verdict">(.*?)</p>', text, re.DOTALL).group(1)
    d = exploration.distribution
    assert f"{100 * d.mean:.2f} %" in verdict
    assert "the mean of 6 fresh seeds" in verdict
    assert "best" not in verdict


def test_every_user_s_string_is_only_text(record):
    value = Value(HOSTILE, None)
    chosen = dataclasses.replace(record.response[record.best], values=(value, value))
    response = tuple(chosen if i == record.best else s for i, s in enumerate(record.response))
    space = dataclasses.replace(
        record.space,
        title=HOSTILE,
        tied=((HOSTILE, HOSTILE),),
        cost_problem=HOSTILE,
        uncounted=(HOSTILE,),
        blocks=tuple(dataclasses.replace(b, name=HOSTILE) for b in record.space.blocks),
        layers=tuple(dataclasses.replace(r, name=HOSTILE, type=HOSTILE) for r in record.space.layers),
    )
    fits = tuple(
        dataclasses.replace(
            f,
            plan=dataclasses.replace(f.plan, reason=HOSTILE, fallback=HOSTILE),
            bands_of=HOSTILE,
            columns=((HOSTILE, HOSTILE),),
            bands=tuple(dataclasses.replace(b, name=f"{HOSTILE}{i}") for i, b in enumerate(f.bands)),
        )
        for f in record.fits
    )
    hostile = dataclasses.replace(
        record,
        space=space,
        fits=fits,
        response=response,
        columns=(HOSTILE, HOSTILE + "2"),
        dataset=dataclasses.replace(record.dataset, name=HOSTILE),
        pair=dataclasses.replace(record.pair, names=(HOSTILE, HOSTILE), loss=HOSTILE),
        recipe=((HOSTILE, HOSTILE),),
        versions=((HOSTILE, HOSTILE),),
        made_by=HOSTILE,
    )
    text = page(hostile)
    read = Reader(text)
    assert read.open == read.unclosed == []
    assert [t for t, _ in read.elements].count("img") == 0
    programs = [s for a, s in read.scripts if "type" not in a]
    assert len(programs) == 2
    assert "alert(1)" not in "".join(programs)
    assert "{{7*7}}" in text
    assert not any(name.startswith("on") for _, a in read.elements for name in a)
    assert read.headings[0][1] == HOSTILE
    # Within a figure, plotly reads <a>, <b> and their like: these too arrive as text.
    for attributes, source in read.scripts:
        if attributes.get("type") == "application/json":
            assert "<" not in source
            assert "alert(1)" not in source or "&lt;/script&gt;" in json.dumps(json.loads(source))
            assert "<script" not in json.dumps(json.loads(source))


def test_a_hostile_architecture_from_end_to_end(tmp_path):
    architecture = type("<script>alert(1)</script>", (nn.Linear,), {})
    space = ms.ModelSpace(architecture, in_features=4, out_features=3, input_shape=(4,))
    run = ms.fit(space.sample(seeds=3), data("<b>data</b></script>"), epochs=1)
    run.report(tmp_path / "run.html")
    read = Reader((tmp_path / "run.html").read_text(encoding="utf-8"))
    assert read.headings[0][1] == "<script>alert(1)</script>(in_features=4, out_features=3)"
    assert len([s for a, s in read.scripts if "type" not in a]) == 2


def test_all_colours_have_a_dark_counterpart(record):
    assert set(canvas.LIGHT) == set(canvas.DARK)
    assert len(set(canvas.LIGHT.values())) == len(canvas.LIGHT)
    drawn = [
        drawing.response_figure(record, 0),
        drawing.scores_figure(record.scores),
        drawing.path_figure(record.pair),
        drawing.curve_figure("train_loss", record.fits[1].bands[0], record.fits[0].bands[0], ("a", "b")),
    ]
    for figure in drawn:
        colours = set(re.findall(r'"(#[0-9a-f]{6}|rgba?\([^)]*\))"', figure.to_json()))
        assert colours <= {*canvas.LIGHT.values(), "rgba(0,0,0,0)"}


def test_the_response_is_drawn_through_the_choice(record):
    figure = drawing.response_figure(record, 0)
    (median,) = (trace for trace in figure.data if trace.name == "median")
    expected = sorted((s.values[0].number, s.median) for s in record.slice(0))
    assert list(zip(median.x, median.y, strict=True)) == expected
    assert len(expected) == 3
    assert figure.layout.xaxis.type == "log"
    (ring,) = (trace for trace in figure.data if trace.name == "chosen")
    assert ring.y[0] == record.response[record.best].median


def test_one_dot_a_seed(record):
    (dots,) = (trace for trace in drawing.scores_figure(record.scores).data if trace.name == "one seed")
    assert len(dots.x) == 6
    assert len(set(zip(dots.x, dots.y, strict=True))) == 6


def test_divergence_is_drawn_and_told():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 3, generator=generator)
    loaded = ms.data.load((inputs, inputs.sum(1, keepdim=True)))
    space = ms.ModelSpace(nn.Linear, in_features=3, out_features=1, input_shape=(3,))
    run = ms.fit(
        space.sample(seeds=4, lr=[1e-2, 1e6]), loaded, loss="mse", optimizer="sgd", epochs=6, batch_size=6
    )
    record = record_of_run(run)
    (crosses,) = (t for t in drawing.response_figure(record, 0).data if t.name == "diverged")
    assert (list(crosses.x), list(crosses.text)) == ([1e6], ["4/4"])
    read = Reader(page(record))
    rows = read.table("4 of 8 members of the run diverged")
    assert [row[:2] for row in rows[1:]] == [[str(seed), "1000000"] for seed in range(4)]


@pytest.mark.parametrize("lr", [None, 1e30])
def test_runs_without_columns_and_without_survivors(lr):
    space = ms.ModelSpace(nn.Linear, in_features=4, out_features=1, input_shape=(4,))
    population = space.sample(seeds=2) if lr is None else space.sample(seeds=2, lr=[lr])
    loaded = ms.data.load((torch.randn(40, 4), torch.randn(40, 1)))
    run = ms.fit(population, loaded, loss="mse", optimizer=ms.SGD(lr=0.01), epochs=1, batch_size=4)
    read = Reader(page(record_of_run(run)))
    assert "Nothing was swept" in [heading for _, heading in read.headings]


def test_a_page_drawn_again_from_json_is_the_same(record, text):
    assert page(ReportRecord.from_json(record.to_json())) == text


def test_files_are_written_whole_or_not_at_all(record, exploration, tmp_path, monkeypatch):
    path = tmp_path / "new" / "report.html"
    write_record(record, path)
    before = path.read_bytes()
    assert before.rstrip().endswith(b"</html>")
    monkeypatch.setattr("modelspace.report._page.figures.scores_figure", lambda scores: 1 / 0)
    with pytest.raises(ZeroDivisionError, match="division"):
        write_record(record, path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_a_place_that_can_t_be_written_to_is_said(record, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelspaceError, match="can't write"):
        write_record(record, tmp_path / "file" / "report.html")


def test_exploration_and_run_perform_it(exploration, tmp_path):
    exploration.report(tmp_path / "a.html")
    write_exploration(exploration, tmp_path / "b.html", command="modelspace explore <x>")
    exploration.sweep.report(tmp_path / "c.html")
    write_run(exploration.sweep, tmp_path / "d.html", command="modelspace fit <y>")
    texts = {p.name: p.read_text(encoding="utf-8") for p in tmp_path.iterdir()}
    assert len(texts) == 4
    assert "<code>modelspace explore &lt;x&gt;</code>" in texts["b.html"]
    assert "<code>modelspace fit &lt;y&gt;</code>" in texts["d.html"]
