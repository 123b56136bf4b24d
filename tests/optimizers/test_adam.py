import pytest
import torch
from optimizers.truth import MEMBERS, arguments, problem

from modelspace.optimizers import Adam, AdamW


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_the_state_holds_a_largest_moment_only_where_it_is_used(kind):
    points = torch.ones(2, 3)
    assert list(kind().init(points)) == ["exp_avg", "exp_avg_sq"]
    assert list(kind(amsgrad=True).init(points)) == ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"]


def test_without_weight_decay_adamw_is_adam_bit_for_bit():
    columns = {"weight_decay": [0.0] * MEMBERS}
    given = arguments(Adam(), columns, problem(torch.float64), list(range(MEMBERS)))
    assert torch.equal(Adam().update(*given)[0], AdamW().update(*given)[0])


def test_a_gradient_of_zero_moves_adamw_by_the_decay_alone():
    columns = {"lr": [0.1] * MEMBERS, "weight_decay": [0.5] * MEMBERS}
    gradient, state, points, hyper, step = arguments(
        AdamW(), columns, problem(torch.float64), list(range(MEMBERS))
    )
    received, _ = AdamW().update(0 * gradient, state, points, hyper, step)
    assert torch.equal(received, points * 0.95)
