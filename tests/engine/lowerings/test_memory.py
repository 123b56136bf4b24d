"""Operations that write into a tensor, against torch's own, member after member."""

import pytest
import torch
from engine.members import MEMBERS, assert_lowered, assert_members
from torch import nn

SHARED = torch.tensor([0, 2])
OPERATIONS = {
    "scatter_ value": lambda x, y, i: x.scatter_(0, i, 1.5),
    "scatter_": lambda x, y, i: x.scatter_(0, i.argsort(0), y),
    "scatter_add_": lambda x, y, i: x.scatter_add_(0, i, y),
    "scatter_reduce_": lambda x, y, i: x.scatter_reduce_(0, i, y, "mean"),
    "index_copy_": lambda x, y, i: x.index_copy_(0, SHARED, y[:2]),
    "index_add_": lambda x, y, i: x.index_add_(0, i[:2, 0], y[:2]),
    "index_fill_": lambda x, y, i: x.index_fill_(0, SHARED, 1.5),
    "masked_fill_": lambda x, y, i: x.masked_fill_(y > 0, 1.5),
    "masked_scatter_": lambda x, y, i: x.masked_scatter_(y > 0, y),
    "index_put_": lambda x, y, i: x.index_put_((i[:, 0],), y, accumulate=True),
    "lerp_": lambda x, y, i: x.lerp_(y, 0.1),
    "lerp_ tensor": lambda x, y, i: x.lerp_(y, y.sigmoid()),
    "addcmul_": lambda x, y, i: x.addcmul_(y, y, value=0.5),
    "addcdiv_": lambda x, y, i: x.addcdiv_(y, y.exp()),
    "clamp_": lambda x, y, i: x.clamp_(y, y + 1),
    "pow_": lambda x, y, i: x.mul_(0.1).add_(2).pow_(y),
    "cumsum_": lambda x, y, i: x.cumsum_(0),
    "tril_": lambda x, y, i: x.tril_(),
    "renorm_": lambda x, y, i: x.renorm_(2, 0, 1.0),
    "fill_diagonal_": lambda x, y, i: x.fill_diagonal_(0.5),
    "addmm_": lambda x, y, i: x.addmm_(y, y),
    "remainder_": lambda x, y, i: x.remainder_(y),
    "eq_": lambda x, y, i: x.eq_(y),
    "out": lambda x, y, i: torch.add(y, y, out=x),
    "set by a mask": lambda x, y, i: x.__setitem__(y > 0, 0.5),
    "set by a mask of rows": lambda x, y, i: x.__setitem__(y[:, 0] > 0, y[0]),
    "set by an index": lambda x, y, i: x.__setitem__((slice(1, 3), 0), y[0, 0]),
    "set by indices": lambda x, y, i: x.__setitem__(i[:, 0], y),
    "added by a slice": lambda x, y, i: x[:, 1].add_(y[:, 0]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_written(name):
    x, y = (torch.randn(MEMBERS, 4, 4, dtype=torch.float64) for _ in range(2))
    indices = torch.stack([torch.randperm(4) for _ in range(MEMBERS * 4)]).view(MEMBERS, 4, 4)
    differentiable = name not in ("eq_", "out", "remainder_")
    x, y = x.requires_grad_(differentiable), y.requires_grad_(differentiable)

    def written(x, y, i):
        x = x.clone()
        OPERATIONS[name](x, y, i)
        return x

    assert_lowered(written, [x, y, indices], [True] * 3)
    assert_lowered(written, [x, y[0], indices[0]], [True, False, False])


class Writing(nn.Module):
    """It writes the members' values into what all of them share: a fresh tensor, and its input."""

    def __init__(self, write):
        super().__init__()
        self.write = write
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.register_buffer("average", torch.zeros(4, 4))

    def forward(self, x):
        x.mul_(2)
        if self.training:
            self.average.lerp_(x * self.weight.detach(), 0.1)
        fresh = x.new_zeros(4, 4)
        self.write(
            fresh, x * self.weight, torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 1, 0], [3, 2, 0, 1]])
        )
        return fresh + x * self.weight + self.average


@pytest.mark.parametrize("name", OPERATIONS)
def test_into_what_members_share(name):
    if name in ("eq_", "out", "remainder_", "index_copy_"):
        return
    x = torch.randn(4, 4, dtype=torch.float64)
    assert assert_members(lambda: Writing(OPERATIONS[name]), x, training=True) in ((), ("masked_scatter",))
