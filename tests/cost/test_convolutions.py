"""Convolutions against the multiply-and-adds themselves: on ones each adds one to a sum.

Of ones the outputs' sum is the number of multiply-and-adds of the forward, the gradients' sums are those of the
backward: PyTorch's kernels count, no formula.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import modelspace as ms
from modelspace.cost import anatomy, time_bound

CONVOLUTIONS = [
    (nn.Conv1d, (4, 9), {"groups": 2}),
    (nn.Conv1d, (6, 9), {"groups": 6, "dilation": 2}),
    (nn.Conv2d, (4, 7, 6), {"groups": 1, "stride": 2}),
    (nn.Conv2d, (8, 6, 6), {"groups": 8}),
    (nn.Conv2d, (4, 7, 8), {"groups": 2, "stride": (2, 1), "dilation": (1, 2)}),
    (nn.Conv3d, (4, 5, 5, 4), {"groups": 4}),
    (nn.ConvTranspose1d, (4, 5), {"groups": 2, "stride": 2}),
    (nn.ConvTranspose2d, (6, 4, 3), {"groups": 3, "stride": 2, "output_padding": 1}),
    (nn.ConvTranspose2d, (4, 4, 4), {"groups": 4, "dilation": 2}),
    (nn.ConvTranspose3d, (2, 3, 3, 3), {"groups": 2}),
]
NAMES = [f"{kind.__name__}-{'-'.join(map(str, given.values()))}" for kind, _, given in CONVOLUTIONS]


class From(nn.Module):
    """A layer whose input is a parameter."""

    def __init__(self, layer, shape, dtype=torch.float32):
        super().__init__()
        self.layer, self.x = layer, nn.Parameter(torch.ones(shape, dtype=dtype))

    def forward(self, x):
        return self.layer(self.x)


def made(kind, shape, given, multiplier=2, dtype=torch.float32):
    channels = shape[0]
    layer = kind(
        channels, multiplier * channels, (3, 2, 2)[: len(shape) - 1], bias=False, dtype=dtype, **given
    )
    return layer.requires_grad_()


def by_ones(layer, batch, shape):
    """FLOP of the forward, of the input's gradient and of the weight's."""
    x = torch.ones(batch, *shape, requires_grad=True)
    with torch.no_grad():
        layer.weight.fill_(1)
    out = layer(x)
    out.sum().backward()
    return tuple(2 * round(float(t.detach().sum())) for t in (out, x.grad, layer.weight.grad))


@pytest.mark.parametrize(("kind", "shape", "given"), CONVOLUTIONS, ids=NAMES)
def test_each_pass_by_its_multiply_and_adds(kind, shape, given):
    layer = made(kind, shape, given)
    forward, to_input, to_weight = by_ones(layer, 3, shape)
    found = anatomy(layer, shape, batch_size=3)
    assert (found.forward_flops, found.backward_flops) == (forward, to_weight)
    both = anatomy(From(layer, (3, *shape)), (1,))
    assert (both.forward_flops, both.backward_flops) == (forward, to_input + to_weight)
    layer.requires_grad_(False)
    assert anatomy(From(layer, (3, *shape)), (1,)).backward_flops == to_input
    assert anatomy(layer, shape, batch_size=3).backward_flops == 0


@pytest.mark.parametrize("groups", [1, 4])
def test_padding_is_counted_as_what_is_padded(groups):
    padded = nn.Conv2d(4, 8, 3, padding=(1, 2), groups=groups, bias=False)
    bare = nn.Conv2d(4, 8, 3, groups=groups, bias=False)
    forward, _, to_weight = by_ones(bare, 2, F.pad(torch.ones(4, 5, 6), (2, 2, 1, 1)).shape)
    found = anatomy(padded, (4, 5, 6), batch_size=2)
    assert (found.forward_flops, found.backward_flops) == (forward, to_weight)


def complex_multiply_and_adds(kind, shape, given, batch):
    real, _, _ = by_ones(made(kind, shape, given), batch, shape)
    return 4 * real


@pytest.mark.parametrize(("kind", "shape", "given"), CONVOLUTIONS, ids=NAMES)
def test_a_complex_multiply_and_add_is_eight(kind, shape, given):
    layer = made(kind, shape, given, dtype=torch.complex64)
    flops = complex_multiply_and_adds(kind, shape, given, 2)
    found = anatomy(layer, shape, batch_size=2, input_dtype=torch.complex64)
    assert (found.forward_flops, found.backward_flops) == (flops, flops)
    both = anatomy(From(nn.Sequential(layer, nn.Flatten()), (2, *shape), torch.complex64), (1,))
    assert (both.forward_flops, both.backward_flops) == (flops, 2 * flops)


def test_real_convolutions_beside_complex_ones_count_once():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.real = nn.Conv1d(2, 2, 3, bias=False)
            self.complex = nn.Conv1d(2, 2, 3, bias=False, dtype=torch.complex64)

        def forward(self, x):
            return self.complex(self.real(x).to(torch.complex64)).abs() + self.real(x)[..., 1:-1]

    found = anatomy(Mixed(), (2, 9))
    rows = {(row.name, row.repeat): (row.flops, row.backward_flops) for row in found.layers if row.name}
    real = 2 * 2 * 2 * 3 * 7
    assert rows[("real", 0)] == rows[("real", 1)] == (real, real)
    assert rows[("complex", 0)] == (8 * 2 * 2 * 3 * 5, 16 * 2 * 2 * 3 * 5)


class Separable(nn.Module):
    def __init__(self, width=4, depth=2):
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "depthwise": nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
                    "pointwise": nn.Conv2d(width, width, 1, bias=False),
                }
            )
            for _ in range(depth)
        )
        self.head = nn.Linear(width, 10, bias=False)

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block["pointwise"](block["depthwise"](x).relu())
        return self.head(x.mean((2, 3)))


def by_hand(width, depth, side=8):
    first, head = 2 * side * side * 27 * width, 2 * width * 10
    block = 2 * side * side * (9 * width + width * width)
    return first + depth * block + head, first + 2 * depth * block + 2 * head


def test_inspect_laws_solve_and_the_time_bound():
    forward, backward = by_hand(4, 2)
    found = ms.inspect(Separable, (3, 8, 8), hardware="a100")
    assert (found.anatomy.forward_flops, found.anatomy.backward_flops) == (forward, backward)
    assert found.bound.compute_seconds == pytest.approx((forward + backward) / 156e12)
    assert found.bound == time_bound(found.anatomy, "a100")
    family = ms.Family(Separable, input_shape=(3, 8, 8), width=range(2, 65), depth=[1, 2, 3])
    law = family.laws["backward_flops"]
    for width, depth in ((2, 1), (17, 3), (64, 2)):
        assert law.value({"width": width, "depth": depth}) == by_hand(width, depth)[1]
    solved = ms.Family(Separable, input_shape=(3, 8, 8), width=range(2, 65)).solve(flops=sum(by_hand(40, 2)))
    assert (solved.hyperparameters, solved.distance) == ({"width": 40}, 0)


def test_complex_weights_made_of_real_ones():
    class Pairs(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(2, 3, 4, 2))

        def forward(self, x):
            return F.conv1d(torch.view_as_complex(x), torch.view_as_complex(self.w)).abs()

    flops = 8 * 2 * 3 * 4 * 6
    found = anatomy(Pairs(), (3, 9, 2))
    assert (found.forward_flops, found.backward_flops) == (flops, flops)
