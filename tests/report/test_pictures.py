"""Pictures for papers, and pages that are kept and drawn again."""

import json
import re

import numpy as np
import plotly.graph_objects as go
import pytest
from support.pages import Reader

from modelspace import ModelspaceError
from modelspace.report import Page, write_figure, write_pictures
from modelspace.report._canvas import LIGHT, empty_figure
from modelspace.report._document import Plot, Section, Table

X = [1.0, 2.0, 3.0, 4.0]
GRID = [[1.0, 2.0, None], [2.0, 5.0, 3.0]]
BAND = {"fill": "tonexty", "fillcolor": "rgba(0,114,178,0.26)"}


def drawn(*traces, **layout):
    figure = empty_figure(300)
    for trace in traces:
        figure.add_trace(trace)
    return figure.update_layout(**layout)


FIGURES = {
    "lines": drawn(
        go.Scatter(x=X, y=[1, 3, None, 2], name="a <b>", line={"dash": "dash", "color": LIGHT["bad"]}),
        go.Scatter(x=X, y=[2, 4, 3, 3], name="upper", line={"shape": "hv"}),
        go.Scatter(x=X, y=[0, 1, 1, 1], name="a band", **BAND),
        go.Scatter(x=[1, 2, 2, 1], y=[0, 0, 1, 1], fill="toself", fillcolor="rgb(1,2,3)", name="an area"),
        xaxis={"title": {"text": "steps &amp; more"}, "type": "log"},
        yaxis={"tickformat": ",.1~%"},
    ),
    "points": drawn(
        go.Scatter(
            x=X, y=X, mode="markers+text", text=["p", "q", "r", "s"], textposition="bottom left",
            marker={"color": [0.0, 1.0, 2.0, 3.0], "colorscale": "Cividis", "size": [5, 6, 7, 8]},
            error_x={"type": "data", "array": [0.1] * 4, "color": LIGHT["ink"]},
        ),
        go.Scatter(x=X, y=X, mode="markers", marker={"symbol": "circle-open"}, error_y={"value": 0.5}),
        shapes=[{"type": "rect", "x0": 1, "x1": 2, "y0": 1, "y1": 2, "line": {"color": LIGHT["other"]}}],
        annotations=[{"x": 2, "y": 2, "text": "a note", "showarrow": False}],
    ).add_hline(y=0.5, annotation_text="a limit").add_vline(x=2.5),
    "bars": drawn(go.Bar(x=[1, 2], y=["one", "two"], orientation="h", error_x={"array": [0.1, 0.2]})),
    "upright": drawn(go.Bar(x=X, y=X, name="n")),
    "heat": drawn(
        go.Heatmap(
            x=["u", "v", "w"], y=["i", "j"], z=GRID, text=[["1", "2", ""], ["2", "5", "3"]], texttemplate="%{text}"
        )
    ),
    "contour": drawn(
        go.Contour(x=[0, 1, 2], y=[0, 1], z=np.array(GRID, dtype=float), colorbar={"title": {"text": "height"}})
    ),
    "surface": drawn(go.Surface(x=[0, 1, 2], y=[0, 1], z=GRID), scene={"xaxis": {"title": {"text": "along"}}}),
}  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_every_kind_of_figure_is_a_picture(name, tmp_path):
    for ending, begins in ((".png", b"\x89PNG\r\n\x1a\n"), (".pdf", b"%PDF-"), (".svg", b"<?xml")):
        if ending == ".png" or name == "lines":
            write_figure(FIGURES[name], tmp_path / f"{name}{ending}")
            assert (tmp_path / f"{name}{ending}").read_bytes().startswith(begins)


def texts(path):
    return {text.strip() for text in re.findall(r">([^<>]+)</text>", path.read_text(encoding="utf-8"))}


def test_what_a_figure_says_is_text_of_its_picture(tmp_path):
    said = {
        "lines": {"a", "upper", "a band", "an area", "steps &amp; more", "400%"},
        "points": {"p", "s", "a note", "a limit"},
        "bars": {"one", "two"},
        "heat": {"u", "w", "i", "j", "5"},
        "contour": {"height"},
        "surface": {"along"},
    }
    for name, words in said.items():
        write_figure(FIGURES[name], tmp_path / "x.svg")
        assert words <= texts(tmp_path / "x.svg"), name


def test_a_picture_is_the_same_bytes_again(tmp_path):
    for name in ("a.svg", "b.svg"):
        write_figure(FIGURES["lines"], tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_what_is_no_picture_is_said(tmp_path):
    tree = go.Figure(go.Treemap(labels=["a"], parents=[""]))
    with pytest.raises(ModelspaceError, match="a treemap is drawn in a page alone"):
        write_figure(tree, tmp_path / "x.png")
    with pytest.raises(ModelspaceError, match=r"ends in \.html, \.png, \.svg, \.pdf; received .*x\.jpeg"):
        write_figure(FIGURES["lines"], tmp_path / "x.jpeg")
    assert write_pictures([Plot("tree", "", "", tree)], tmp_path) == []
    assert list(tmp_path.iterdir()) == []


HOSTILE = "<script>alert(1)</script>"


def test_a_page_that_was_kept_is_drawn_again(tmp_path):
    plots = [
        Plot(name, HOSTILE, name, figure, (Table("t", ("a",), [("1",)]),)) for name, figure in FIGURES.items()
    ]
    section = Section(
        HOSTILE, [HOSTILE], plots, [Table("all", ("n", HOSTILE), [("  x", "1")], tree=True)], [("n", "2")]
    )
    page = Page("A kind", HOSTILE, ["said"], [section], "25", ["a line"])
    page.keep(tmp_path)
    again = Page.kept(tmp_path)
    assert page.html == (tmp_path / "report.html").read_text(encoding="utf-8")
    data = re.compile(r'<script type="application/json".*?</script>')  # whose keys may stand in another order
    assert data.sub("", again.html) == data.sub("", page.html)
    assert [json.loads(p.json) for p in again.plots] == [json.loads(p.json) for p in plots]
    reader = Reader(page.html)
    assert reader.unclosed == []
    assert HOSTILE not in page.html
    made = write_pictures(again.plots[:2], tmp_path)
    assert [path.name for path in made] == ["lines.png", "lines.svg", "points.png", "points.svg"]


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": "x"}', None])
def test_a_damaged_page_is_said(tmp_path, text):
    if text is not None:
        (tmp_path / "page.json").write_text(text)
    with pytest.raises(ModelspaceError, match=r"page\.json is no page of this program's"):
        Page.kept(tmp_path)
