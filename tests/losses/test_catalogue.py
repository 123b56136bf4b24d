"""The catalogue, its table and curves say what the losses say; parameters and the loss itself are columns."""

import math
import re
import runpy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from losses.table import at
from torch.func import grad, vmap

from modelspace import losses as ms
from modelspace.errors import ModelspaceError
from modelspace.losses import CATALOGUE, KINDS, Choice, curve, curves, has_curve, table
from modelspace.optimizers import RANGES

ROOT = Path(__file__).parents[2]


def test_to_state_properties_is_to_be_in_the_catalogue_by_kind():
    assert [type(loss) for loss in CATALOGUE.values()] == sorted(
        ms.Loss.catalogued, key=lambda loss: KINDS.index(loss.kind)
    )
    assert {loss.kind for loss in CATALOGUE.values()} == set(KINDS)
    assert all(ms.resolve(name) is loss and loss.name == name for name, loss in CATALOGUE.items())

    @dataclass(frozen=True)
    class Theirs(ms.Hinge):
        properties = ms.Properties(lambda self: f"{self.gamma} max(0, 1 − v)", convex=True)
        gamma: float = ms.parameter(2.0, "gain: of the hinge", above=0)

    assert "theirs" not in CATALOGUE
    assert Theirs not in ms.Loss.catalogued
    assert Theirs(3.0).properties.formula == "3.0 max(0, 1 − v)"
    assert Theirs(3.0).parameters() == {"gamma": "3, a positive number: gain: of the hinge"}
    assert str(Theirs(3.0)) == "theirs(gamma=3)"


def test_formulas_are_plain_text_and_sources_are_named():
    for loss in CATALOGUE.values():
        known = loss.properties
        assert not set("\\{}") & set(known.formula + known.minimiser)
        assert known.formula.count("(") == known.formula.count(")")
        assert re.search(r"\b(1[6-9]|20)\d\d\b", known.source)
        assert known.calibrated is True or not known.proper
    assert ms.Poisson().properties.formula.endswith(" + log y!")
    assert "y!" not in ms.Poisson(full=False).properties.formula
    assert [str(ms.Poisson()), str(ms.Poisson(full=False))] == ["poisson", "poisson(full=False)"]
    assert ms.Poisson(full=False).hyperparameters() == {}


def test_one_name_means_one_range_and_no_optimizer_has_it():
    limits = {}
    for loss in CATALOGUE.values():
        assert set(loss.ranges()) == set(loss.hyperparameters()) == set(loss.parameters())
        assert not set(loss.ranges()) & set(RANGES)
        for name, allowed in loss.ranges().items():
            assert limits.setdefault(name, allowed.label) == allowed.label or name.startswith("gamma_")
            assert ms.ranges()[name] == allowed, f"{loss.name} has another range of {name}"
    assert {"gamma", "epsilon", "delta", "scale"} <= set(limits)
    assert CATALOGUE["focal"].parameters() == {"gamma": "2, a number of at least 0: focusing exponent"}


def test_each_loss_is_one_row_with_its_own_properties():
    rows = table()
    assert list(rows.index) == list(CATALOGUE)
    stated = (
        "convex",
        "lipschitz",
        "smooth",
        "bound",
        "calibrated",
        "proper",
        "formula",
        "minimiser",
        "source",
    )
    for name, loss in CATALOGUE.items():
        row = rows.loc[name]
        assert [row[column] for column in stated] == [getattr(loss.properties, column) for column in stated]
        assert (row["kind"], row["outputs"], row["labels"]) == (loss.kind, loss.outputs, loss.labels)
        assert all(f"{parameter} = " in row["parameters"] for parameter in loss.hyperparameters())


def is_finite(value):
    return value is not None and value < math.inf


@pytest.mark.parametrize("value", [True, False])
def test_a_filter_keeps_what_is_so_and_of_constants_what_is_finite(value):
    known = {name: loss.properties for name, loss in CATALOGUE.items()}
    for name in ("convex", "calibrated", "proper"):
        expected = [n for n, stated in known.items() if getattr(stated, name) is value]
        assert list(table(**{name: value}).index) == expected != []
    for name, field in (("lipschitz", "lipschitz"), ("smooth", "smooth"), ("bounded", "bound")):
        expected = [n for n, stated in known.items() if is_finite(getattr(stated, field)) is value]
        assert list(table(**{name: value}).index) == expected != []


def test_filters_are_taken_together_and_what_is_unknown_is_refused_with_the_nearest():
    rows = table(kind="margin", convex=True, smooth=True, labels="sign", calibrated=True)
    assert {"logistic", "squared_hinge"} <= set(rows.index)
    assert not {"hinge", "savage", "perceptron"} & set(rows.index)
    assert table(kind="regression", calibrated=True).empty
    for asked, says in (
        ({"kind": "margins"}, "unknown kind of loss 'margins': did you mean 'margin'"),
        ({"labels": "signs"}, "unknown kind of labels 'signs': did you mean 'sign'"),
        ({"outputs": "logit"}, "unknown kind of outputs 'logit': did you mean 'logits'"),
    ):
        with pytest.raises(ModelspaceError, match=says):
            table(**asked)


def test_the_guide_s_table_is_the_catalogue_s():
    """Held cell by cell; `python docs/losses_table.py` rewrites it, and changes nothing where nothing changed."""
    page = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
    lines = page.split("<!-- all losses: begin -->")[1].split("<!-- all losses: end -->")[0].splitlines()
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("| `")]
    written = {
        cells[0].strip(" `"): [re.sub(r"\\(.)", r"\1", c.strip()).replace("&lt;", "<") for c in cells[1:]]
        for cells in rows
    }
    words = {True: "yes", False: "no", None: "–"}
    expected = {
        name: [
            row["formula"],
            row["parameters"],
            words[row["convex"]],
            *(
                "–" if v is None else "∞" if v == math.inf else f"{v:.4g}"
                for v in (row["lipschitz"], row["smooth"])
            ),
            words[row["calibrated"]],
            words[row["proper"]],
            row["source"],
        ]
        for name, row in table().iterrows()
    }
    assert written == expected, "run python docs/losses_table.py"
    assert [line.removeprefix("### ").lower() for line in lines if line.startswith("### ")] == list(KINDS)
    script = runpy.run_path(str(ROOT / "docs" / "losses_table.py"))
    assert script["rewritten"](page) == page
    assert script["rewritten"](page.replace("\n| `hinge` |", "\n| `henge` |")) == page


def sigmoid(v):
    return 1 / (1 + math.exp(-v))


CLOSED = {  # value, slope and curvature at a point, by hand
    "logistic": (0.7, lambda v: (math.log1p(math.exp(-v)), -sigmoid(-v), sigmoid(v) * sigmoid(-v))),
    "exponential": (0.3, lambda v: (math.exp(-v), -math.exp(-v), math.exp(-v))),
    "hinge": (0.2, lambda v: (1 - v, -1, 0)),
    "squared_hinge": (-0.5, lambda v: ((1 - v) ** 2, -2 * (1 - v), 2)),
    "cross_entropy": (1.1, lambda v: (math.log1p(math.exp(-v)), -sigmoid(-v), sigmoid(v) * sigmoid(-v))),
    "least_squares": (1.7, lambda r: (r * r / 2, r, 1)),
    "absolute": (-1.2, lambda r: (abs(r), -1, 0)),
    "poisson": (0.4, lambda z: (math.exp(z) - z, math.exp(z) - 1, math.exp(z))),
    "binary_cross_entropy": (0.3, lambda z: (-math.log(z), -1 / z, 1 / z**2)),
}


@pytest.mark.parametrize("name", CLOSED)
def test_values_slopes_and_curvatures_are_those_by_hand(name):
    point, expected = CLOSED[name]
    with torch.no_grad():
        drawn = curve(name, [point])
    assert (*drawn.value, *drawn.slope, *drawn.curvature) == pytest.approx(
        expected(point), rel=1e-6, abs=1e-12
    )


@pytest.mark.parametrize("name", [name for name, loss in CATALOGUE.items() if has_curve(loss)])
def test_slope_and_curvature_are_the_differences_of_what_they_derive(name):
    """Away from kinks, where the curvature's neighbours agree."""
    drawn = curve(name)
    x, value, slope, curvature = (
        np.array(v) for v in (drawn.points, drawn.value, drawn.slope, drawn.curvature)
    )
    assert np.isfinite([value, slope, curvature]).all()
    smooth = np.abs(np.diff(curvature)) < 0.5 * (1 + np.abs(curvature[1:])) * (x[1] - x[0]) * 20
    kinked = np.abs(np.diff(slope, 2, prepend=slope[0], append=slope[-1])) > 1e-2 * (1 + np.abs(slope))
    inner = smooth[1:] & smooth[:-1] & ~kinked[1:-1] & ~kinked[2:] & ~kinked[:-2]
    assert inner.sum() > 50
    for lower, upper in ((value, slope), (slope, curvature)):
        ratio = (lower[2:] - lower[:-2]) / (x[2:] - x[:-2])
        scale = 1 + np.abs(upper[1:-1])
        assert np.abs(ratio - upper[1:-1])[inner].max() < 0.05 * scale[inner].max()
    if CATALOGUE[name].properties.convex:
        assert curvature.min() > -1e-9
        assert (np.diff(slope) > -1e-9).all()


def test_curves_are_of_the_loss_given_and_only_of_what_has_an_axis_in_common():
    assert curve(ms.Huber(delta=0.5), [2.0]).value[0] == pytest.approx(0.5 * (2 - 0.25))
    assert curve(ms.Focal(gamma=0.0), [1.0]).value == pytest.approx(curve("cross_entropy", [1.0]).value)
    assert [curve(loss).loss for loss in (ms.Huber(delta=0.5), ms.Hinge())] == ["huber(delta=0.5)", "hinge"]
    for names, says in (
        (("logistic", "huber"), r"logistic over the margin .*huber over the residual z − y"),
        ((), "no loss to draw"),
        (("gaussian",), "'gaussian' has no curve"),
        (("mse",), "'mse_loss' has no curve"),
        (("logistik",), "did you mean 'logistic'"),
    ):
        with pytest.raises(ModelspaceError, match=says):
            curves(*names)


AMONG = (ms.Logistic(), ms.Hinge(), ms.Focal())
OUTPUTS, LABELS = torch.randn(3, 5, 4, dtype=torch.float64), torch.tensor([0, 3, 1, 1, 2])


def test_each_member_has_its_own_loss():
    choice, place, gamma = Choice(AMONG), at(2, 0, 1), at(0.5, 1.0, 2.0)

    def value(outputs, place, gamma):
        return choice.at({"loss": place, "gamma": gamma})(outputs, LABELS)

    values, slopes = vmap(value)(OUTPUTS, place, gamma), vmap(grad(value))(OUTPUTS, place, gamma)
    for k, loss in enumerate((ms.Focal(0.5), AMONG[0], AMONG[1])):
        torch.testing.assert_close(values[k], loss(OUTPUTS[k], LABELS))
        torch.testing.assert_close(slopes[k], grad(lambda z, loss=loss: loss(z, LABELS))(OUTPUTS[k]))
    second = Choice(AMONG, loss=1)
    assert torch.equal(second(OUTPUTS[0], LABELS, reduction="none"), ms.Hinge().per_label(OUTPUTS[0], LABELS))
    assert str(choice) == "logistic|hinge|focal"
    assert choice.places(["hinge", "hinge", "logistic"]) == [1, 1, 0]
    assert {name: allowed.low for name, allowed in choice.ranges().items()} == {"loss": 0, "gamma": 0}


def test_what_overflows_in_one_loss_leaves_no_trace_in_another():
    choice = Choice((ms.Given("explosive", lambda z, y: torch.exp(z.square()).sum()), ms.Hinge()))
    slope, outputs = grad(lambda z, place: choice.at({"loss": place})(z, LABELS)), 100 * OUTPUTS[0]
    assert not slope(outputs, at(0.0)[0]).isfinite().all()
    assert torch.equal(slope(outputs, at(1.0)[0]), grad(lambda z: ms.Hinge()(z, LABELS))(outputs))
