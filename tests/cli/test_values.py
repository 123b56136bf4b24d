"""Values as they are typed."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelspace.cli import values
from modelspace.errors import ModelspaceError


def test_column_forms():
    assert values.column("1e-3") == [1e-3]
    assert values.column("1e-3,0.5") == [1e-3, 0.5]
    assert values.column("1e-4:1e-1:4") == [1e-4, 1e-3, 1e-2, 1e-1]


@given(st.floats(1e-8, 1e3), st.floats(1.5, 1e4), st.integers(2, 30))
def test_a_range_is_logarithmic(low, factor, count):
    found = values.column(f"{low}:{low * factor}:{count}")
    ratios = [b / a for a, b in pairwise(found)]
    assert len(found) == count
    assert found[0] == pytest.approx(low)
    assert ratios == pytest.approx([factor ** (1 / (count - 1))] * (count - 1))


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", [0, 1, 2]), ("5,9", [5, 9]), ("7-9", [7, 8, 9]), ("9223372036854775807,0", [2**63 - 1, 0])],
)
def test_seeds(text, seeds):
    assert list(values.seeds(text)) == seeds


def test_shapes_and_pairs():
    assert values.shape("3x7x7") == values.shape("3×7×7") == (3, 7, 7)
    assert values.pairs("0.9/0.999,0.8/0.9") == [(0.9, 0.999), (0.8, 0.9)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("64", 64),
        ("0.5", 0.5),
        ("[1, 2]", [1, 2]),
        ("true", True),
        ("False", False),
        ("relu", "relu"),
        ("__import__('os')", "__import__('os')"),
    ],
)
def test_arguments_are_literals_or_strings(text, value):
    assert values.argument(text) == value


@pytest.mark.parametrize(
    ("convert", "text", "says"),
    [
        (values.column, "1:2", "low:high:count"),
        (values.column, "a", "not a number"),
        (values.seeds, "0", "at least one seed"),
        (values.shape, "0x3", "positive sizes"),
        (values.pairs, "0.9", "two numbers"),
    ],
)
def test_what_is_refused(convert, text, says):
    with pytest.raises(ModelspaceError, match=says):
        convert(text)
