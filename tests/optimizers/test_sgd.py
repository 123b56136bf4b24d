import pytest
import torch
from optimizers.truth import MEMBERS, arguments, problem

from modelspace.errors import ModelspaceError
from modelspace.hyperparameters import validate
from modelspace.optimizers import SGD


def test_where_momentum_is_zero_the_step_is_along_the_plain_gradient_whatever_the_dampening():
    posed = problem(torch.float64)
    columns = {"momentum": [0.0] * MEMBERS, "dampening": [0.7] * MEMBERS, "lr": [0.1] * MEMBERS}
    gradient, state, points, hyper, _ = arguments(SGD(), columns, posed, list(range(MEMBERS)))
    received, _ = SGD().update(gradient, state, points, hyper, torch.tensor(9.0, dtype=torch.float64))
    assert torch.allclose(received, points - 0.1 * gradient, rtol=1e-15, atol=1e-15)


def test_the_first_gradient_enters_the_buffer_undamped():
    posed = problem(torch.float64)
    columns = {"momentum": [0.9] * MEMBERS, "dampening": [0.7] * MEMBERS}
    gradient, *rest = arguments(SGD(), columns, posed, list(range(MEMBERS)))
    assert torch.equal(SGD().update(gradient, *rest)[1]["momentum_buffer"], gradient)


def test_nesterov_refuses_dampening_and_the_lack_of_momentum_as_torch_does():
    refused = r"momentum must be a positive number where nesterov is on; received 0\.0 \(member 1\); .*"
    refused += r"dampening must be 0 where nesterov is on; received 0\.5$"
    with pytest.raises(ModelspaceError, match=refused):
        validate(SGD(nesterov=True, dampening=0.5), {"momentum": [0.9, 0.0]})
    with pytest.raises(ValueError, match="Nesterov momentum requires"):
        torch.optim.SGD([torch.zeros(1)], momentum=0.9, dampening=0.5, nesterov=True)
    validate(SGD(nesterov=True), {"momentum": [0.9, 0.5]})
    validate(SGD(), {"momentum": [0.9, 0.0], "dampening": [0.5, -2.0]})
