import time

import pytest
import torch
from torch import nn

from modelspace.cost import DEVICES, Device, anatomy, device, measured_here, time_bound
from modelspace.errors import ModelspaceError

TOY = Device("toy", {torch.float32: 1000.0, torch.float16: 4000.0}, 100.0, None, "made up")


def test_the_bound_of_one_product_by_hand():
    record = anatomy(nn.Linear(8, 4, bias=False), (8,), batch_size=3)
    bound = time_bound(record, TOY, phase="forward")
    flops, moved = 2 * 3 * 8 * 4, 4 * (3 * 8 + 8 * 4 + 3 * 4)
    assert bound.compute_seconds == pytest.approx(flops / 1000)
    assert bound.traffic_seconds == bound.seconds == pytest.approx(moved / 100)
    assert bound.traffic_share == 1
    assert set(bound.by_module) == {""}


def test_each_operation_waits_for_the_slower_of_the_two():
    fast = Device("fast memory", {torch.float32: 1000.0}, 1e9, None, "made up")
    record = anatomy(nn.Sequential(nn.Linear(8, 4), nn.ReLU()), (8,), batch_size=3)
    bound = time_bound(record, fast)
    assert bound.seconds == pytest.approx((record.forward_flops + record.backward_flops) / 1000, rel=1e-3)
    assert bound.seconds >= max(bound.compute_seconds, bound.traffic_seconds)
    halves = (
        time_bound(record, fast, phase="forward").seconds + time_bound(record, fast, phase="backward").seconds
    )
    assert bound.seconds == pytest.approx(halves)
    assert sum(bound.by_module.values()) == pytest.approx(bound.seconds)


def test_the_type_of_the_operands_sets_the_rate():
    half = anatomy(nn.Linear(8, 4).half(), (8,), input_dtype=torch.float16)
    assert time_bound(half, TOY).compute_seconds == pytest.approx(
        (half.forward_flops + half.backward_flops) / 4000
    )


@pytest.mark.parametrize("name", DEVICES)
def test_the_table_is_sound(name):
    found = device(name.upper())
    assert found.name == name
    assert found.source
    assert 0 < found.peak(torch.float64) <= found.peak(torch.float32) <= found.peak(torch.bfloat16)
    assert 5e10 < found.bandwidth < 1e13
    assert found.peak(torch.int8) == found.peak(None) == found.peak(torch.float32)


def test_a_measured_bound_lies_below_the_measured_time():
    net, x = nn.Linear(1024, 1024, bias=False), torch.randn(512, 1024)
    bound = time_bound(anatomy(net, (1024,), batch_size=512, backward=False), measured_here(0.1))
    best = float("inf")
    with torch.no_grad():
        for _ in range(20):
            start = time.perf_counter()
            net(x)
            best = min(best, time.perf_counter() - start)
    # The machine is shared: the bound is held to its order, not to its digits.
    assert bound.compute_seconds < 2 * best
    assert "measured" in bound.source


def test_an_unknown_device_is_refused():
    with pytest.raises(ModelspaceError, match="unknown device 'a1000': did you mean 'a100'"):
        device("a1000")
