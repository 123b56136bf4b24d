import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelspace.errors import ModelspaceError
from modelspace.space._columns import LARGEST_SEED, logspace, product_table


@given(st.floats(1e-8, 1e4), st.floats(1e-8, 1e4), st.integers(1, 30))
def test_logspace_has_both_ends_and_equal_ratios(low, high, count):
    values = logspace(low, high, count)
    assert len(values) == count
    assert math.isclose(values[0], low, rel_tol=1e-10)
    if count > 1:
        assert math.isclose(values[-1], high, rel_tol=1e-10)
        ratios = np.diff(np.log(values))
        assert np.allclose(ratios, ratios[0], atol=1e-9)


@pytest.mark.parametrize("arguments", [(0, 1, 3), (1e-3, -1, 3), (1e-3, 1, 0)])
def test_logspace_needs_positive_ends(arguments):
    with pytest.raises(ModelspaceError, match="two positive ends and a count of at least 1; received"):
        logspace(*arguments)


def test_the_table_is_the_product_with_seeds_fastest():
    table = product_table([5, 7], {"lr": [0.1, 0.2], "weight_decay": 0.0, "betas": [(0.9, 0.99)]})
    assert table.columns.tolist() == ["seed", "lr", "weight_decay", "betas"]
    assert table["seed"].tolist() == [5, 7, 5, 7]
    assert table["lr"].tolist() == [0.1, 0.1, 0.2, 0.2]
    assert table["betas"].tolist() == [(0.9, 0.99)] * 4


def test_a_tuple_of_betas_is_one_value():
    assert len(product_table(1, {"betas": (0.9, 0.99)})) == 1
    assert len(product_table(1, {"betas": [(0.9, 0.99), (0.8, 0.9)]})) == 2


def test_a_number_of_seeds_counts_from_zero():
    assert product_table(3, {})["seed"].tolist() == [0, 1, 2]


def test_the_largest_seed_stays_an_integer():
    assert product_table([LARGEST_SEED, 0], {"lr": [0.1]})["seed"].tolist() == [2**63 - 1, 0]


@pytest.mark.parametrize(
    ("seeds", "columns", "message"),
    [
        ([], {}, "no seeds"),
        (0, {}, "no seeds"),
        ([1, 2, 1], {}, "seed 1 is given more than once"),
        ([-1], {}, "from 0 to 2⁶³−1; received -1"),
        ([2**63], {}, "from 0 to 2⁶³−1"),
        ([1.5], {}, "from 0 to 2⁶³−1; received 1.5"),
        (["a"], {}, "a seed is an integer; received 'a'"),
        (2, {"lr": []}, "the column 'lr' has no values"),
        (2, {"lr": [0.01, 0.1, 1e-2]}, "column lr has 0.01 more than once"),
        (2, {"betas": [(0.9, 0.99), [0.9, 0.99]]}, "column betas has .* more than once"),
        (range(10**12), {}, "1,000,000,000,000 members are more than"),
        (10**6, {"lr": range(1, 1000)}, "999,000,000 members are more than"),
        (2, {"seed": [1]}, "'seed' is made from seeds="),
    ],
)
def test_bad_seeds_and_columns_are_refused(seeds, columns, message):
    with pytest.raises(ModelspaceError, match=message):
        product_table(seeds, columns)
