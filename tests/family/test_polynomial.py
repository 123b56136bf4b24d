from fractions import Fraction
from itertools import product

from family.formulas import evaluated, total
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspace.family._polynomial import Polynomial, interpolated

FEW = settings(max_examples=30, deadline=None)
COEFFICIENTS = st.fractions(-50, 50, max_denominator=6)


@st.composite
def polynomials(draw):
    """Coefficients of a polynomial in up to three variables, by exponents, and its degrees."""
    degrees = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    exponents = list(product(*(range(d + 1) for d in degrees)))
    return {e: draw(COEFFICIENTS) for e in exponents}, degrees


def by_hand(coefficients, at):
    value = Fraction(0)
    for exponents, c in coefficients.items():
        for x, e in zip(at, exponents, strict=True):
            c *= Fraction(x) ** e
        value += c
    return value


def through(coefficients, nodes):
    names = tuple("xyz"[: len(nodes)])
    return interpolated(names, nodes, {at: by_hand(coefficients, at) for at in product(*nodes)})


@FEW
@given(polynomials(), st.data())
def test_interpolation_gives_the_coefficients_back(drawn, data):
    coefficients, degrees = drawn
    distinct = st.integers(-20, 20)
    nodes = [data.draw(st.lists(distinct, min_size=d + 1, max_size=d + 1, unique=True)) for d in degrees]
    found = through(coefficients, nodes)
    assert dict(found.terms) == {e: c for e, c in coefficients.items() if c}


@FEW
@given(polynomials(), st.lists(st.integers(0, 10**9), min_size=3, max_size=3))
def test_value_and_text_are_the_polynomial(drawn, at):
    coefficients, degrees = drawn
    found = through(coefficients, [range(1, d + 2) for d in degrees])
    values = dict(zip("xyz", at, strict=True))
    expected = by_hand(coefficients, at[: len(degrees)])
    assert found(values) == expected
    assert total(str(found), values) == expected


def test_text_by_example():
    p = Polynomial(
        ("width", "depth"), (((2, 1), Fraction(1)), ((1, 0), Fraction(-3, 2)), ((0, 0), Fraction(7)))
    )
    assert str(p) == "width²·depth − 3/2·width + 7"
    assert p.latex() == r"\mathrm{width}^{2}\,\mathrm{depth} - \frac{3}{2}\,\mathrm{width} + 7"
    assert str(Polynomial(("x",), ())) == "0"
    assert str(Polynomial(("x",), (((10,), Fraction(-1)),))) == "−x¹⁰"
    assert Polynomial(("in_features",), (((1,), Fraction(2)),)).latex() == r"2\,\mathrm{in\_features}"


def test_the_evaluator_of_these_tests_evaluates():
    text = "n(a, b) = −1/2·a²·b − 3·b + 10   where a ≡ 1 (mod 2)\nn(a, b) = a¹²   where a = 4, b ≥ 2"
    assert evaluated(text, a=3, b=4) == -18 - 12 + 10
    assert evaluated(text, a=4, b=2) == 4**12
    assert evaluated(text, a=4, b=1) is None
