import json
import re

import pytest
from torch import nn

from modelspace import Family
from modelspace.errors import ModelspaceError
from modelspace.report import curves_of, scaling_figure
from modelspace.report._curves import ScalingCurve

HOSTILE = "</script><script>alert(1)</script>"


class Layer(nn.Linear):
    def __init__(self, width, outputs, bias):
        if width == 6 and outputs == 2:
            raise ValueError("not this one")
        super().__init__(width, outputs, bias)


def test_curves_are_the_table_s_numbers():
    family = Family(Layer, width=[8, 4, 6], outputs=[2, 3], bias=True)
    along_width = [c for c in curves_of(family) if c.axis == "width"]
    assert along_width == [
        ScalingCurve("n", "width", "outputs=2", (4, 8), (10, 18)),
        ScalingCurve("n", "width", "outputs=3", (4, 6, 8), (15, 21, 27)),
    ]
    (six,) = (c for c in curves_of(family) if c.others == "width=6")
    assert (six.axis, six.x, six.y) == ("outputs", (3,), (21,))


def test_the_figure_has_a_panel_for_each_pair_on_logarithmic_axes():
    family = Family(
        nn.Linear,
        in_features=[4, 8],
        out_features=[2, 3],
        input_shape=lambda in_features, **_: (in_features,),
    )
    figure = family.plot()
    panels = {(trace.xaxis, trace.yaxis) for trace in figure.data}
    assert len(panels) == 4 * 2
    axes = [value for name, value in figure.to_dict()["layout"].items() if re.match("[xy]axis", name)]
    assert len(axes) == 16
    assert {axis["type"] for axis in axes} == {"log"}
    drawn = [tuple(trace.y) for trace in figure.data]
    assert drawn == [
        curve.y for axis in family.axes.integers for curve in curves_of(family) if curve.axis == axis
    ]


def test_the_page_needs_no_network_and_runs_no_name(tmp_path):
    path = tmp_path / "scaling.html"
    family = Family(nn.Linear, in_features=[4, 8], out_features=2)
    family.name = HOSTILE
    family.plot(path)
    text = path.read_text(encoding="utf-8")
    assert "alert(1)</script>" not in text
    assert not re.search(r"<script[^>]*\ssrc=", text)
    assert not re.search(r"<link[^>]*href=", text)


def test_names_are_text_to_plotly():
    figure = scaling_figure([ScalingCurve("n", "<b>w</b>", "<i>d</i>=1", (1, 2), (3, 4))], HOSTILE)
    said = json.dumps(figure.to_dict()["layout"]) + figure.data[0].name + figure.data[0].hovertemplate
    assert "<b>" not in said
    assert "<i>" not in said
    assert "<script>" not in said


def test_without_integers_there_is_nothing_to_plot():
    with pytest.raises(ModelspaceError, match=r"no hyper-parameter of Linear is an integer \(bias\)"):
        Family(nn.Linear, in_features=4, out_features=2, bias=[True, False]).plot()
