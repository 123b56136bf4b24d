import pytest

from modelspace import EarlyStopping
from modelspace.errors import ModelspaceError


@pytest.mark.parametrize("settings", [{"patience": 0}, {"min_delta": -0.1}])
def test_out_of_range(settings):
    with pytest.raises(ModelspaceError, match="patience ≥ 1 and min_delta ≥ 0"):
        EarlyStopping(**settings)
