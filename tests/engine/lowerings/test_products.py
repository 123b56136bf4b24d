"""Products whose weight gradient is computed in either order."""

import pytest
import torch
from support.plain import relative_error
from torch.fx.experimental.proxy_tensor import make_fx

from modelspace.engine import measurements
from modelspace.engine.lowerings import linear

SHAPES = [((5, 3), (3, 7)), ((4, 5, 3), (4, 3, 7))]


@pytest.fixture(autouse=True)
def _anew():
    measurements._trials.cache_clear()
    yield
    measurements._trials.cache_clear()


def gradients(multiply, weight, columns):
    leaves = [weight.clone().requires_grad_(), columns.clone().requires_grad_()]
    out = multiply(*leaves)
    return [out.detach(), *torch.autograd.grad((out * out.detach().cos()).sum(), leaves)]


@pytest.mark.parametrize("gain", [0.5, 2.0], ids=["as written", "the other way round"])
@pytest.mark.parametrize(("weight", "columns"), SHAPES, ids=["shared", "own"])
def test_product_and_gradients_are_those_of_a_plain_product(weight, columns, gain, monkeypatch):
    monkeypatch.setattr(linear, "gain", lambda name, trial: gain)
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(weight, generator=generator, dtype=torch.float64)
    c = torch.randn(columns, generator=generator, dtype=torch.float64)
    swapped = type(linear.matrix_product(w.requires_grad_(), c).grad_fn).__name__ == "_SwappedBackward"
    assert swapped == (gain > 1)
    received = gradients(linear.matrix_product, w.detach(), c)
    for ours, plain in zip(received, gradients(torch.matmul, w.detach(), c), strict=True):
        assert relative_error(ours, plain) <= 1e-15


def test_of_the_trials_no_trace_is_left_in_a_program():
    graph = make_fx(linear.matrix_product)(torch.ones(2, 5, 3), torch.ones(2, 3, 7))
    calls = [node.target for node in graph.graph.nodes if node.op == "call_function"]
    assert calls.count(torch.ops.aten.bmm.default) == 1
    assert torch.ops.aten.ones.default not in calls
