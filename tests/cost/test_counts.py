import torch
from torch import nn

from modelspace.cost import counts


def test_ties_frozen_ones_buffers_and_types():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
            self.b.weight = self.a.weight
            self.half = nn.Linear(4, 2, bias=False, dtype=torch.float16).requires_grad_(False)
            self.norm = nn.BatchNorm1d(4)
            self.own = nn.Parameter(torch.zeros(7))

    net = Net()
    found = counts(net)
    assert (
        found.trainable == sum(p.numel() for p in net.parameters() if p.requires_grad) == 16 + 4 + 4 + 8 + 7
    )
    assert (found.frozen, found.parameters, found.buffers) == (8, 47, 9)
    assert found.tied == {"b.weight": "a.weight"}
    assert found.by_module == {"": 7, "a": 20, "b": 4, "half": 8, "norm": 8}
    assert found.by_kind == {"Net": 7, "Linear": 32, "BatchNorm1d": 8}
    assert found.parameter_bytes == {torch.float32: 4 * 39, torch.float16: 16}
    assert found.buffer_bytes == {torch.float32: 32, torch.int64: 8}


def test_a_module_used_twice_counts_once():
    shared = nn.Linear(3, 3)
    found = counts(nn.Sequential(shared, nn.ReLU(), shared))
    assert (found.trainable, found.tied) == (12, {"2.weight": "0.weight", "2.bias": "0.bias"})
