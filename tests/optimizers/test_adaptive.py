import torch
from optimizers.truth import MEMBERS, arguments, problem

from modelspace.optimizers import RMSprop


def test_the_state_holds_a_mean_gradient_only_where_it_is_used():
    points = torch.ones(2, 3)
    assert list(RMSprop().init(points)) == ["square_avg", "momentum_buffer"]
    assert list(RMSprop(centered=True).init(points)) == ["square_avg", "momentum_buffer", "grad_avg"]


def test_with_nothing_remembered_the_step_is_the_sign_of_the_gradient():
    columns = {"lr": [0.1] * MEMBERS, "alpha": [0.0] * MEMBERS, "eps": [0.0] * MEMBERS}
    gradient, state, points, hyper, step = arguments(
        RMSprop(), columns, problem(torch.float64), list(range(MEMBERS))
    )
    received, _ = RMSprop().update(gradient, state, points, hyper, step)
    assert torch.allclose(received, points - 0.1 * gradient.sign(), rtol=1e-14, atol=1e-14)
