import torch

from modelspace.trace import PeakMemory


def test_live_and_peak_follow_births_and_deaths():
    x = torch.zeros(1000)
    with PeakMemory([x, x.view(10, 100)]) as memory:
        assert memory.live == 4000
        y = x + 1
        z = y.view(-1)
        del y
        assert memory.live == 8000
        del z
        assert memory.live == 4000
        x.add_(1)
    assert (memory.live, memory.peak) == (4000, 8000)


def test_what_autograd_keeps_is_alive():
    x = torch.zeros(1000, device="meta", requires_grad=True)
    with PeakMemory([x]) as memory:
        y = x.exp().sin()
        assert memory.live == 12000  # x, exp(x) kept for sin's backward, y
        del y
        assert memory.live == 4000
