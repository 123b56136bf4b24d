"""Curves against closed forms and differences; formulas as text."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspace.errors import ModelspaceError
from modelspace.losses import CATALOGUE, Focal, Hinge, Huber
from modelspace.losses.curves import curve, curves, has_curve
from modelspace.losses.formula import readable

DRAWN = [name for name, loss in CATALOGUE.items() if has_curve(loss)]
sigmoid = lambda v: 1 / (1 + math.exp(-v))  # noqa: E731

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
    at, expected = CLOSED[name]
    found = curve(name, [at])
    received = [found.value[0], found.slope[0], found.curvature[0]]
    assert received == pytest.approx(expected(at), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("name", DRAWN)
def test_slope_and_curvature_are_the_differences_of_what_they_derive(name):
    """Away from kinks, where the curvature's neighbours agree."""
    found = curve(name)
    x = np.array(found.points)
    value, slope, curvature = (np.array(v) for v in (found.value, found.slope, found.curvature))
    assert np.isfinite([value, slope, curvature]).all()
    smooth = np.abs(np.diff(curvature)) < 0.5 * (1 + np.abs(curvature[1:])) * (x[1] - x[0]) * 20
    kinked = np.abs(np.diff(slope, 2, prepend=slope[0], append=slope[-1])) > 1e-2 * (1 + np.abs(slope))
    inner = smooth[1:] & smooth[:-1] & ~kinked[1:-1] & ~kinked[2:] & ~kinked[:-2]
    assert inner.sum() > 50
    step = x[2:] - x[:-2]
    for lower, upper in ((value, slope), (slope, curvature)):
        ratio = (lower[2:] - lower[:-2]) / step
        scale = 1 + np.abs(upper[1:-1])
        assert np.abs(ratio - upper[1:-1])[inner].max() < 0.05 * scale[inner].max()


@pytest.mark.parametrize("name", [n for n in DRAWN if CATALOGUE[n].properties.convex])
def test_a_convex_loss_has_no_negative_curvature(name):
    found = curve(name)
    assert min(found.curvature) > -1e-9
    assert (np.diff(found.slope) > -1e-9).all()


def test_parameters_are_those_of_the_loss_given():
    assert curve(Huber(delta=0.5), [2.0]).value[0] == pytest.approx(0.5 * (2 - 0.25))
    assert curve(Focal(gamma=0.0), [1.0]).value == pytest.approx(curve("cross_entropy", [1.0]).value)
    assert curve(Huber(delta=0.5)).loss == "huber(delta=0.5)"
    assert curve(Hinge()).loss == "hinge"


def test_what_has_no_axis_in_common_is_refused():
    with pytest.raises(ModelspaceError, match=r"logistic over the margin .*huber over the residual z − y"):
        curves("logistic", "huber")
    with pytest.raises(ModelspaceError, match="no loss to draw"):
        curves()
    with pytest.raises(ModelspaceError, match="'gaussian' has no curve"):
        curve("gaussian")
    with pytest.raises(ModelspaceError, match="did you mean 'logistic'"):
        curve("logistik")
    with pytest.raises(ModelspaceError, match="'mse_loss' has no curve"):
        curve("mse")


def test_gradients_are_found_where_the_caller_takes_none():
    with torch.no_grad():
        assert curve("logistic", [0.0]).slope == (-0.5,)


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"\max(0,\, 1 - v)", "max(0, 1 − v)"),
        (r"\tfrac12 (y - z)^2", "½ (y − z)²"),
        (r"\log\frac{p}{1-p}", "log(p/(1−p))"),
        (r"\frac{a}{b}(c)", "(a/b)(c)"),
        (r"\sqrt{1 + x^2}", "√(1 + x²)"),
        (r"\sum_{c \ne y} z_c", "Σ_(c ≠ y) z_c"),
        (r"\begin{cases}a & x > 0\\ b & x \le 0\end{cases}", "a if x > 0; b if x ≤ 0"),
        (r"\operatorname{sign}(2p - 1)", "sign(2p − 1)"),
        (r"x^{10} + x_{12}", "x¹⁰ + x₁₂"),
        (r"\unheard{x}", "unheardx"),
    ],
)
def test_formulas_as_plain_text(latex, text):
    assert readable(latex) == text


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_formula_of_the_catalogue_is_readable(name):
    properties = CATALOGUE[name].properties
    text = readable(properties.formula)
    assert "\\" not in text
    assert "{" not in text
    assert text.count("(") == text.count(")")


@given(st.text(alphabet="\\{}^_&()abc12-+ ", max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_text_becomes_some_text(text):
    assert "\\frac" not in readable(text)
