import numpy as np
import pytest

from modelspace.errors import ModelspaceError
from modelspace.family._axes import axes_of


def test_lists_vary_and_the_rest_is_fixed():
    axes = axes_of(
        {"width": [16, 32], "depth": range(1, 3), "kernel": (3, 3), "norm": [True, False], "classes": 10}
    )
    assert axes.listed == {"width": (16, 32), "depth": (1, 2), "norm": (True, False)}
    assert axes.fixed == {"kernel": (3, 3), "classes": 10}
    assert axes.integers == ("width", "depth")
    members = list(axes.members())
    assert len(members) == 8
    assert members[1] == {"width": 16, "depth": 1, "norm": False}


def test_numpy_s_integers_are_integers():
    axes = axes_of({"width": np.array([16, 32])})
    assert axes.integers == ("width",)
    assert type(axes.listed["width"][0]) is int


def test_one_and_true_are_different_values():
    assert axes_of({"bias": [True, 1]}).listed["bias"] == (True, 1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"width": 16}, r"at least one hyper-parameter: give a list"),
        ({"width": []}, r"width has no values"),
        ({"width": [16, 32, 16]}, r"width has 16 twice"),
    ],
)
def test_mistakes(arguments, says):
    with pytest.raises(ModelspaceError, match=says):
        axes_of(arguments)


def test_completing_a_member():
    axes = axes_of({"width": [16, 32], "heads": [4], "classes": 10})
    assert axes.completed({"width": np.int64(5)}) == {"width": 5, "heads": 4}
    with pytest.raises(ModelspaceError, match=r"width left open: give width=…"):
        axes.completed({})
    with pytest.raises(ModelspaceError, match=r"did you mean 'width'"):
        axes.completed({"widht": 3})
    with pytest.raises(ModelspaceError, match=r"classes is fixed at 10"):
        axes.completed({"width": 16, "classes": 3})
