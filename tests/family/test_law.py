import re

import pytest
from sympy import Poly, Rational, symbols

from modelspace.errors import ModelspaceError
from modelspace.family._axes import axes_of
from modelspace.family._discovery import law_of
from modelspace.family._law import Law, Piece, Progression


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


def test_a_fraction_is_no_count():
    half = Law("n", ("width",), (Piece((), (("width", Progression(1)),), Poly(symbols("width") / 2)),))
    assert half(width=4) == 2
    assert half.value({"width": 3}) is None


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
    left = square.refuted({"width": 16}, 257)
    assert not left.holds
    assert square.holds
    with pytest.raises(ModelspaceError, match=r"gives 256 at width=16, where the trace gives 257"):
        left(width=16)


def test_a_formula_by_example():
    x, width, depth = symbols("x width depth")
    p = Poly(width**2 * depth - Rational(3, 2) * width + 7, width, depth)
    assert Piece((), (), p).formula == "width²·depth − 3/2·width + 7"
    assert (
        Law("n", ("width", "depth"), (Piece((), (), p),))
        .latex()
        .endswith(r" = \mathrm{width}^{2}\,\mathrm{depth} - \frac{3}{2}\,\mathrm{width} + 7")
    )
    assert Piece((), (), Poly(0, x)).formula == "0"
    assert Piece((), (), Poly(-(x**10), x)).formula == "−x¹⁰"
    assert Piece((), ()).formula is None


def test_nothing_is_a_law_too():
    none = law(lambda width: 0, width=[8, 16])
    assert none.holds
    assert str(none) == "n(width) = 0"
    assert none(width=3) == 0


def test_members_of_a_progression():
    along = Progression(4, 3, stop=13)
    assert [v for v in range(20) if v in along] == [4, 7, 10, 13]
    assert [along[i] for i in range(3)] == [4, 7, 10]
    assert 7.5 not in along
    assert True not in Progression(1)
    assert "7" not in along


@pytest.mark.parametrize(
    ("along", "words"),
    [
        (Progression(1), ""),
        (Progression(8, 8), "width ≡ 0 (mod 8)"),
        (Progression(16), "width ≥ 16"),
        (Progression(17, 8, 33), "width ≡ 1 (mod 8), 17 ≤ width ≤ 33"),
    ],
)
def test_conditions_in_words(along, words):
    assert Piece((), (("width", along),)).conditions == words
    both = ", ".join(filter(None, ["depth = 2", words]))
    assert Piece((("depth", 2),), (("width", along),)).conditions == both
