import pytest

from modelspace.late import perform, performs


def test_the_upper_layer_performs_what_the_lower_calls():
    @performs("tests.add")
    def add(a, b=1):
        return a + b

    assert perform("tests.add", 2) == 3
    assert perform("tests.add", 2, b=5) == 7
    assert add(1) == 2
    with pytest.raises(KeyError, match=r"tests\.nobody"):
        perform("tests.nobody")
