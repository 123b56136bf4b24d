import numpy as np
import pytest
import torch

from modelspace.errors import ModelspaceError
from modelspace.hyperparameters import check, hyper_columns, validate
from modelspace.optimizers import RANGES, SGD, Adam


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("lr", [1e-9, 10.0], [0.0, -1.0, np.inf, np.nan]),
        ("alpha", [0.0, 0.999], [1.0, -0.1, np.nan]),
        ("eps", [0.0, 1.0], [-1e-9, np.inf]),
        ("weight_decay", [0.0, 1.0], [-1e-9, np.nan]),
        ("momentum", [0.0, 1.5], [-0.1, np.inf]),
        ("dampening", [-3.0, 3.0], [np.inf, -np.inf, np.nan]),
        ("clip_norm", [1e-3, np.inf], [0.0, -1.0, np.nan]),
        ("clip_value", [1e-3, np.inf], [0.0, -1.0, np.nan]),
        ("warmup_steps", [0, 7], [-1, 2.5]),
        ("warmup_start", [1e-3, 1.0], [0.0, 1.1]),
        ("onecycle_pct_start", [0.0, 1.0], [-0.1, 1.1]),
    ],
)
def test_ranges(name, good, bad):
    assert check(name, good, RANGES[name]) == []
    for value in bad:
        assert (
            f"{name} must be {RANGES[name].expected}; received {float(value)}"
            in check(name, value, RANGES[name])[0]
        )


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("lr", -0.1, "learning rate lr must be a positive number; received -0.1"),
        ("lr", [[1.0], [-0.1]], "received -0.1 (member 1)"),
        ("lr", [0, 1, -1, -2, -3], "received 0.0 (member 0), -1.0 (member 2), -2.0 (member 3) and 1 more"),
        ("lr", ["fast", "slow"], "received ['fast', 'slow']"),
        ("lr", [[0.1, 0.2]], "received an array of shape (1, 2)"),
        ("betas", (0.9, 1.0), "received (0.9, 1.0)"),
        ("betas", [(0.9, 0.99), (-0.1, 0.99)], "received (-0.1, 0.99) (member 1)"),
        ("betas", [0.9, 0.99, 0.999], "received an array of shape (3,)"),
        ("betas", 0.9, "received an array of shape ()"),
    ],
)
def test_messages(name, values, message):
    (problem,) = check(name, values, RANGES[name])
    assert problem.endswith(message)


def test_all_problems_come_at_once():
    columns = {"lr": [0.1, -0.1], "betas": [(0.9, 2.0), (0.9, 0.99)], "momentun": [0.9, 0.9]}
    message = r"lr .* received -0\.1 \(member 1\); .*betas .* received \(0\.9, 2\.0\) \(member 0\); "
    message += r".*eps .* received -1\.0; unknown hyper-parameter of Adam 'momentun'"
    with pytest.raises(ModelspaceError, match=message):
        validate(Adam(eps=-1.0), columns)


def test_a_column_of_the_wrong_length_is_refused():
    with pytest.raises(ModelspaceError, match="lr must have one value for each of 3 members; received 2"):
        hyper_columns(SGD(), {"lr": [0.1, 0.2]}, members=3)


def test_hyper_columns_are_the_defaults_where_nothing_is_given():
    hyper = hyper_columns(Adam(), {"lr": [0.1, 0.2]}, members=2)
    assert hyper["lr"].tolist() == [[0.1], [0.2]]
    assert hyper["betas"].tolist() == [[0.9, 0.999]] * 2
    assert {column.dtype for column in hyper.values()} == {torch.float64}
