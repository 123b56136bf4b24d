"""The lowering of linear layers against torch's own, member after member."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from modelspace.engine.lowerings import lowered

MEMBERS = 3


@pytest.mark.parametrize(
    ("lead", "outputs", "own_input", "own_weight", "own_bias"),
    [
        (*case, own_input, own_weight, own_bias)
        for case in itertools.product([(), (5,), (5, 2)], [1, 4, 40])
        for own_input, own_weight, own_bias in itertools.product(
            [True, False], [True, False], [True, False, None]
        )
        if own_input or own_weight or own_bias
    ],
)
def test_values_and_gradients_are_torch_s(lead, outputs, own_input, own_weight, own_bias):
    def normal(own, *shape):
        return torch.randn(*([MEMBERS] if own else []), *shape, dtype=torch.float64, requires_grad=True)

    x, w = normal(own_input, *lead, 6), normal(own_weight, outputs, 6)
    b = None if own_bias is None else normal(own_bias, outputs)
    dims = tuple(0 if own else None for own in (own_input, own_weight, own_bias))

    def one(x, w, b):
        with lowered(None, batched=True):
            return F.linear(x, w, b)

    def row(tensor, own, k):
        return tensor[k] if own else tensor

    ours = torch.vmap(one, in_dims=dims)(x, w, b)
    theirs = torch.stack(
        [F.linear(row(x, own_input, k), row(w, own_weight, k), row(b, own_bias, k)) for k in range(MEMBERS)]
    )
    assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    cotangent = torch.linspace(-1, 1, theirs.numel(), dtype=torch.float64).view(theirs.shape)
    leaves = [t for t in (x, w, b) if t is not None]
    for received, wanted in zip(
        torch.autograd.grad(ours, leaves, cotangent),
        torch.autograd.grad(theirs, leaves, cotangent),
        strict=True,
    ):
        assert torch.allclose(received, wanted, rtol=1e-11, atol=1e-11)
