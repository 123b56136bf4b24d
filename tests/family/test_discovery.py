"""Laws of functions that are known, so that what is found can be held against the truth everywhere."""

from fractions import Fraction
from itertools import product

import pytest
from family.formulas import evaluated, total
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspace.errors import ModelspaceError
from modelspace.family._axes import axes_of
from modelspace.family._discovery import candidates, interpolated, law_of, law_within, piece_along
from modelspace.family._law import Piece, Progression

FEW = settings(max_examples=25, deadline=None)


class Counted:
    """A quantity that counts how many members it was asked for."""

    def __init__(self, function):
        self.function, self.asked = function, set()

    def __call__(self, member):
        self.asked.add(tuple(member.items()))
        return self.function(**member)


def found(function, **listed):
    measure = Counted(function)
    return law_of("n", measure, axes_of(listed)), measure


def everywhere(**ranges):
    for values in product(*ranges.values()):
        yield dict(zip(ranges, values, strict=True))


@FEW
@given(
    st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 1)), st.integers(1, 99)),
    st.integers(1, 10**6),
    st.integers(1, 10**6),
)
def test_any_polynomial_with_positive_coefficients(terms, x, y):
    def f(a, b, c):
        return sum(k * a**i * b**j * c**m for (i, j, m), k in terms.items())

    law, measure = found(f, a=[16, 32], b=[1, 2, 3], c=[2, 5])
    (piece,) = law.pieces
    assert piece.conditions == ""
    assert law(a=x, b=y, c=7) == f(x, y, 7)
    assert len(measure.asked) <= 24 + 3 * 2 * 2 + 8 + 3


@pytest.mark.parametrize(
    ("f", "condition"),
    [
        (lambda width: 3 * (-(-width // 8) * 8) ** 2 + 5, "width ≡ 0 (mod 8)"),
        (lambda width: (8 * width // 3) * width, "width ≡ 0 (mod 3)"),
        (lambda width: max(width, 10) ** 2, "width ≥ 24"),
    ],
    ids=["rounded to 8", "floor of 8/3", "at least 10"],
)
def test_a_law_on_part_of_the_integers(f, condition):
    law, _ = found(f, width=[24, 48, 96])
    assert [p.conditions for p in law.pieces] == [condition]
    for width in range(24, 5000, 24):
        assert law(width=width) == f(width)
    others = [w for w in range(1, 200) if law.value({"width": w}) is not None]
    assert all(law(width=w) == f(w) for w in others)


def test_a_floor_division_falls_into_residues():
    def f(width):
        return 8 * width // 3 + 1

    law, _ = found(f, width=[64, 128, 256])
    assert sorted(p.conditions for p in law.pieces) == ["width ≡ 1 (mod 3)", "width ≡ 2 (mod 3)"]
    for width in range(1, 1000):
        assert law.value({"width": width}) == (None if width % 3 == 0 else f(width))


def test_members_that_can_t_be_built():
    def f(width, heads):
        if width % heads:
            raise ModelspaceError(f"{heads} heads don't divide {width}")
        return 4 * width**2 + heads

    law, _ = found(f, width=[32, 64], heads=[2, 4])
    assert [p.conditions for p in law.pieces] == [
        "heads = 2, width ≡ 0 (mod 2)",
        "heads = 4, width ≡ 0 (mod 4)",
    ]
    for member in everywhere(width=range(4, 200, 4), heads=[2, 4]):
        assert law(**member) == f(**member)


def test_choices_get_a_piece_each():
    def f(width, norm):
        return width**2 + (2 * width if norm else 0)

    law, _ = found(f, width=[8, 16], norm=[True, False])
    for member in everywhere(width=range(1, 50), norm=[True, False]):
        assert law(**member) == f(**member)
    with pytest.raises(ModelspaceError, match="no law gives n at width=3, norm='x'"):
        law(width=3, norm="x")


def test_where_one_variable_has_no_law_the_other_keeps_its_own():
    def f(width, depth):
        return width * 4**depth + depth

    law, _ = found(f, width=[8, 16, 24], depth=[1, 2])
    assert [p.conditions for p in law.pieces] == ["depth = 1", "depth = 2"]
    for member in everywhere(width=range(1, 50), depth=[1, 2]):
        assert law(**member) == f(**member)
    assert law.value({"width": 8, "depth": 3}) is None


def test_no_law_says_why():
    law, _ = found(lambda depth: 2**depth, depth=[1, 2, 3, 4])
    assert not law.holds
    assert str(law).startswith("n(depth): no law, each member is traced (not a polynomial of degree 4")
    law, _ = found(lambda norm: 3 if norm else 4, norm=[True, False])
    assert not law.holds


def test_a_law_that_a_listed_member_contradicts_is_none():
    # A polynomial of small members, clamped where only the largest listed one sees it.
    law, _ = found(lambda width: min(width, 100), width=[1, 2, 500])
    assert not law.holds
    # Seen by no single hyper-parameter's largest value, but by the small grid's cross terms.
    law, _ = found(lambda a, b: a * b + (a > 2) * (b > 2), a=[1, 2, 3], b=[1, 2, 3])
    for member in everywhere(a=range(1, 4), b=range(1, 4)):
        value = law.value(member)
        assert value is None or value == member["a"] * member["b"] + (member["a"] > 2) * (member["b"] > 2)


def test_degrees_are_not_read_where_a_factor_is_zero():
    law, _ = found(lambda width, depth: width**2 * (depth - 1) + 3 * width, width=[16, 32], depth=[1, 2])
    assert str(law) == "n(width, depth) = width²·depth − width² + 3·width"


def test_a_maximum_has_a_law_only_between_the_listed_values():
    axes = axes_of({"width": [16, 32, 64], "depth": [2, 4]})

    def activations(width, depth):
        return max(1000, width * width * depth)

    law = law_within("peak_bytes", lambda m: m["width"] ** 2 * m["depth"], axes)
    assert law(width=48, depth=4) == 48 * 48 * 4
    assert law.value({"width": 128, "depth": 2}) is None
    assert law.value({"width": 8, "depth": 2}) is None
    broken = law_within("peak_bytes", lambda m: activations(**m), axes)
    assert not broken.holds
    assert "a maximum" in str(broken)


def test_what_is_called_checked_was_not_used_and_is_counted_once():
    asked = set()

    def measure(member):
        asked.add(member["width"])
        return 3 * member["width"] ** 2 + 1

    checks = [{"width": 50}, {"width": 50}, {"width": 1}]
    piece = piece_along(measure, {}, {"width": Progression(1)}, checks)
    assert (piece.found_from, piece.checked_on) == (3, 4)  # 1, 2, 3; then 4, 5, 6 and 50
    assert asked == {1, 2, 3, 4, 5, 6, 50}


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
    found = {e: Fraction(c.p, c.q) for e, c in through(coefficients, nodes).terms() if c}
    assert found == {e: c for e, c in coefficients.items() if c}


@FEW
@given(polynomials(), st.lists(st.integers(0, 10**9), min_size=3, max_size=3))
def test_value_and_text_are_the_polynomial(drawn, at):
    coefficients, degrees = drawn
    found = through(coefficients, [range(1, d + 2) for d in degrees])
    own = at[: len(degrees)]
    expected = by_hand(coefficients, own)
    value = found(*own)
    assert Fraction(value.p, value.q) == expected
    assert total(Piece((), (), found).formula, dict(zip("xyz", at, strict=True))) == expected


def test_the_evaluator_of_these_tests_evaluates():
    text = "n(a, b) = −1/2·a²·b − 3·b + 10   where a ≡ 1 (mod 2)\nn(a, b) = a¹²   where a = 4, b ≥ 2"
    assert evaluated(text, a=3, b=4) == -18 - 12 + 10
    assert evaluated(text, a=4, b=2) == 4**12
    assert evaluated(text, a=4, b=1) is None


@FEW
@given(st.lists(st.integers(0, 400), min_size=1, max_size=5, unique=True))
def test_every_candidate_passes_through_all_values(values):
    along = list(candidates(values))
    assert along[0] == Progression(min(1, min(values)))
    assert len(set(along)) == len(along)
    assert all(value in p for p in along for value in values)
    assert all(p.start <= min(values) for p in along)


def test_factor_keeps_to_one_residue():
    assert {p.step % 3 for p in candidates([64, 256], factor=3)} == {0}
    assert next(iter(candidates([64, 256], factor=3))) == Progression(1, 3)


def test_steps_are_the_common_divisors_up_to_a_limit():
    assert {p.step for p in candidates([0, 720720])} == {d for d in range(1, 129) if 720720 % d == 0}
