import re

import pytest

from modelspace.errors import ModelspaceError
from modelspace.family._axes import axes_of
from modelspace.family._discovery import law_of
from modelspace.family._table import refuted


def law(function, **listed):
    return law_of("n", lambda member: function(**member), axes_of(listed))


def test_a_law_refuses_other_names():
    square = law(lambda width: width**2, width=[8, 16])
    with pytest.raises(ModelspaceError, match=r"n is a function of width; received widht=3"):
        square(widht=3)
    with pytest.raises(ModelspaceError, match=r"received nothing"):
        square()


def test_half_a_parameter_is_no_value():
    triangle = law(lambda width: width * (width + 1) // 2, width=[8, 16])
    assert str(triangle) == "n(width) = 1/2·width² + 1/2·width"
    assert [triangle(width=w) for w in range(1, 6)] == [1, 3, 6, 10, 15]


def test_latex_of_one_piece_and_of_several():
    assert law(lambda width: 3 * width**2, width=[8, 16]).latex() == (
        r"n(\mathrm{width}) = 3\,\mathrm{width}^{2}"
    )
    several = law(lambda width, act: width + len(act), width=[8, 16], act=["relu_6", "$x$"])
    text = several.latex()
    assert text.count(r"\begin{cases}") == text.count(r"\end{cases}") == 1
    assert r"\text{relu\_6}" in text
    assert r"\text{\$x\$}" in text
    assert re.sub(r"\\.", "", text).count("$") == 0
    assert several._repr_latex_() == f"${text}$"


def test_latex_of_conditions():
    rounded = law(lambda width: -(-width // 8) * 8, width=[16, 24])
    assert rounded.latex().endswith(r"\quad (\mathrm{width} \equiv 0 \pmod{8})")


def test_a_refuted_piece_is_given_up_with_its_reason():
    square = law(lambda width: width**2, width=[8, 16])
    left = refuted(square, {"width": 16}, 256, 257)
    assert not left.holds
    assert square.holds
    with pytest.raises(ModelspaceError, match=r"gives 256 at width=16, where the trace gives 257"):
        left(width=16)
