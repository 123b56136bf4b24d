"""A curve in characters: read back dot by dot, it is the curve."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspace.cli.losses import drawn

BITS = {
    0x01: (0, 0),
    0x02: (0, 1),
    0x04: (0, 2),
    0x40: (0, 3),
    0x08: (1, 0),
    0x10: (1, 1),
    0x20: (1, 2),
    0x80: (1, 3),
}


def dots(lines):
    """The places (column, row) of a drawing's dots."""
    found = set()
    for row, line in enumerate(lines):
        if "│" in line:
            for column, letter in enumerate(line.split("│")[1]):
                for bit, (right, down) in BITS.items():
                    if (ord(letter) - 0x2800) & bit:
                        found.add((2 * column + right, 4 * row + down))
    return found


@pytest.mark.parametrize("function", [math.sin, math.exp, lambda x: max(0.0, 1 - x), lambda x: 2.5])
def test_each_column_has_a_dot_where_the_curve_is(function):
    x = [i / 50 for i in range(-150, 151)]
    y = [function(v) for v in x]
    lines = drawn(x, y, height=10)
    found = dots(lines)
    low, high = (min(y), max(y)) if min(y) < max(y) else (y[0] - 1, y[0] + 1)
    columns = 2 * (72 - 10)
    for column in range(columns):
        at = -3 + 6 * column / (columns - 1)
        row = (high - function(at)) / (high - low) * 39
        assert any(abs(r - row) <= 1 for c, r in found if c == column)


def test_every_line_is_as_wide_as_asked_and_the_ends_are_written():
    lines = drawn([-3, 3], [-0.5, 2.25], width=60, height=5, title="what it is")
    assert lines[0] == "what it is"
    assert [len(line) for line in lines[1:]] == [60] * 7
    assert lines[1].strip().startswith("2.25 │")
    assert lines[5].strip().startswith("−0.5 │")
    assert lines[-1].split() == ["−3", "3"]


def test_a_jump_is_an_upright_stroke():
    found = dots(drawn([0, 1, 1.001, 2], [0, 0, 1, 1], width=40, height=4))
    assert {row for _, row in found} == set(range(16))


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
@settings(max_examples=40, deadline=None)
def test_any_finite_curve_is_drawn(y):
    lines = drawn(list(range(len(y))), y, width=30, height=3)
    assert {column for column, _ in dots(lines)} == set(range(40))
