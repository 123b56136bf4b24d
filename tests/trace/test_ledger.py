import torch

from modelspace.trace import Ledger, PeakMemory


def test_what_is_alive_at_the_peak_is_known_afterwards():
    ledger = Ledger()
    first, second = torch.zeros(10), torch.zeros(20)
    ledger.watch(first, "a", 0)
    ledger.watch(second, "b", 1)
    ledger.watch(second[3:], "c", 2)  # the same storage
    del first
    third = torch.zeros(5)
    ledger.watch(third, "a", 0)
    assert (ledger.live, ledger.peak) == (100, 120)
    assert ledger.at_peak() == {"a": 40, "b": 80}
    assert ledger.at_peak(lambda block: block.owner) == {0: 40, 1: 80}
    ledger.block_of(second).kind = "later"
    assert ledger.at_peak() == {"a": 40, "later": 80}


def test_the_peak_can_begin_anew_and_has_a_phase():
    ledger = Ledger()
    ledger.watch(torch.zeros(100), "a", None)
    ledger.forget_peak()
    assert (ledger.live, ledger.peak) == (0, 0)
    ledger.phase = "backward"
    ledger.hold(12, "b")
    assert (ledger.peak, ledger.peak_phase, ledger.at_peak()) == (12, "backward", {"b": 12})
    assert [block.bytes for block in ledger.alive()] == [12]


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
