import pandas as pd

from modelspace.errors import ModelspaceError
from modelspace.family._axes import axes_of
from modelspace.family._costs import Member, table_of

AXES = axes_of({"width": [1, 2], "norm": ["batch", None]})


def rows(*sizes):
    members = AXES.members()
    return [
        ModelspaceError("can't be built") if n is None else Member(member, n)
        for n, member in zip(sizes, members, strict=True)
    ]


def test_counts_stay_integers_where_a_member_is_missing():
    table = table_of(AXES, ["n"], rows(3, None, 2**62 + 1, 4))
    assert table.n.isna().tolist() == [False, True, False, False]
    assert table.n[2] == 2**62 + 1
    assert table.width.tolist() == [1, 1, 2, 2]
    assert table.norm.tolist() == ["batch", None, "batch", None]


def test_numbers_beyond_a_machine_word_are_python_s():
    table = table_of(AXES, ["n"], rows(3, None, 2**63 + 1, 10**30))
    assert table.n[2] == 2**63 + 1
    assert table.n[3] == 10**30
    assert table.n[1] is pd.NA
