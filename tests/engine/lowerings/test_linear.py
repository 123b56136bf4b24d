"""Layers that multiply by a weight against torch's own, member after member."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from engine.members import MEMBERS, assert_lowered
from support.plain import relative_error
from torch.fx.experimental.proxy_tensor import make_fx

from modelspace.engine import measurements
from modelspace.engine.lowerings import linear


def some_own(count):
    """Which of so many tensors are each member's own: every choice but none."""
    return [own for own in itertools.product([True, False], repeat=count) if any(own)]


def normal(shapes, own):
    """Tensors of these shapes; those of each member's own with the member axis first."""
    return [
        torch.randn((MEMBERS, *shape) if mine else shape, dtype=torch.float64).requires_grad_()
        for shape, mine in zip(shapes, own, strict=True)
    ]


@pytest.mark.parametrize("outputs", [1, 4, 40])
@pytest.mark.parametrize("lead", [(), (5,), (5, 2)], ids=str)
@pytest.mark.parametrize("own", [*some_own(3), *some_own(2)], ids=str)
def test_linear(own, lead, outputs):
    shapes = [(*lead, 6), (outputs, 6), (outputs,)][: len(own)]
    assert_lowered(F.linear, normal(shapes, own), own)


@pytest.mark.parametrize("lead", [(), (4,), (4, 2)], ids=str)
@pytest.mark.parametrize("own", [*some_own(4), *some_own(3)], ids=str)
def test_bilinear(own, lead):
    shapes = [(*lead, 3), (*lead, 2), (5, 3, 2), (5,)][: len(own)]
    assert_lowered(F.bilinear, normal(shapes, own), own)


@pytest.mark.parametrize("own", some_own(2), ids=str)
@pytest.mark.parametrize(
    ("shape", "slopes"), [((), 1), ((3,), 1), ((4, 3), 3), ((4, 3, 2, 5), 3), ((4, 3, 2), 1)]
)
def test_prelu(shape, slopes, own):
    x, w = normal([shape, (slopes,)], own)
    with torch.no_grad():
        x.reshape(-1)[0] = 0.0
    assert_lowered(F.prelu, [x, w], own)


# Products whose weight gradient is computed in either order


@pytest.fixture
def anew():
    measurements._trials.cache_clear()
    yield
    measurements._trials.cache_clear()


def gradients(multiply, weight, columns):
    leaves = [weight.clone().requires_grad_(), columns.clone().requires_grad_()]
    out = multiply(*leaves)
    return [out.detach(), *torch.autograd.grad((out * out.detach().cos()).sum(), leaves)]


@pytest.mark.parametrize("gain", [0.5, 2.0], ids=["as written", "the other way round"])
@pytest.mark.parametrize(
    ("weight", "columns"), [((5, 3), (3, 7)), ((4, 5, 3), (4, 3, 7))], ids=["shared", "own"]
)
def test_product_and_gradients_are_those_of_a_plain_product(weight, columns, gain, monkeypatch):
    monkeypatch.setattr(linear, "gain", lambda name, trial: gain)
    w, c = (torch.randn(shape, dtype=torch.float64) for shape in (weight, columns))
    product = linear.matrix_product(w.clone().requires_grad_(), c)
    assert (type(product.grad_fn).__name__ == "_SwappedBackward") == (gain > 1)
    received = gradients(linear.matrix_product, w, c)
    for ours, plain in zip(received, gradients(torch.matmul, w, c), strict=True):
        assert relative_error(ours, plain) <= 1e-15


def test_of_the_trials_no_trace_is_left_in_a_program(anew):
    graph = make_fx(linear.matrix_product)(torch.ones(2, 5, 3), torch.ones(2, 3, 7))
    calls = [node.target for node in graph.graph.nodes if node.op == "call_function"]
    assert calls.count(torch.ops.aten.bmm.default) == 1
    assert torch.ops.aten.ones.default not in calls
