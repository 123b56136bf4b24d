import pytest
import torch
import torch.nn.functional as F
from support.drawing import SEEDS, assert_same_in_any_packing, drawn, drawn_together
from torch import nn

POOLS = {
    "2d": (nn.FractionalMaxPool2d(2, output_size=3), (2, 4, 7, 7)),
    "2d by its ratio": (nn.FractionalMaxPool2d((2, 3), output_ratio=0.5), (2, 4, 8, 9)),
    "2d of one sample": (nn.FractionalMaxPool2d(2, output_size=(3, 2)), (4, 7, 7)),
    "3d": (nn.FractionalMaxPool3d(2, output_size=2), (2, 3, 5, 5, 5)),
    "3d of one sample": (nn.FractionalMaxPool3d(2, output_size=2), (3, 5, 5, 5)),
}


@pytest.mark.parametrize("name", POOLS)
def test_members_are_pooled_as_alone(name):
    pool, shape = POOLS[name]
    x = torch.randn(3, *shape, dtype=torch.float64)
    stacked = assert_same_in_any_packing(pool, x)
    assert stacked.shape[1:] == pool(x[0]).shape


@pytest.mark.parametrize("name", POOLS)
def test_gradients_are_those_of_a_member_alone(name):
    pool, shape = POOLS[name]
    x = torch.randn(3, *shape, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(drawn_together(pool, x).square().sum(), x)
    for k, seed in enumerate(SEEDS):
        (expected,) = torch.autograd.grad(drawn(pool, x[k], seed=seed, step=4).square().sum(), x)
        assert torch.equal(gradient[k], expected[k])


def test_members_of_a_shared_input_have_windows_of_their_own():
    pool, x = nn.FractionalMaxPool2d(2, output_size=10), torch.randn(2, 4, 30, 30)
    stacked = drawn_together(lambda: pool(x))
    assert not torch.equal(stacked[0], stacked[1])
    for k, seed in enumerate(SEEDS):
        assert torch.equal(stacked[k], drawn(lambda: pool(x), seed=seed, step=4))


def test_given_windows_and_places_are_torch_s():
    x, samples = torch.randn(3, 2, 4, 7, 7), torch.rand(3, 2, 4, 2)

    def pooled(x, samples):
        return F.fractional_max_pool2d(x, 2, output_size=3, return_indices=True, _random_samples=samples)

    values, places = drawn_together(pooled, x, samples)
    for k in range(3):
        expected = pooled(x[k], samples[k])
        assert torch.equal(values[k], expected[0])
        assert torch.equal(places[k], expected[1])
