"""The lowering of pooling against torch's own, member after member."""

import pytest
import torch
import torch.nn.functional as F
from engine.members import MEMBERS, assert_lowered
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from modelspace.engine.lowerings import lowered

MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
ADAPTIVE_MAX = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}
ADAPTIVE_AVERAGE = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
SIZES = {1: (9,), 2: (8, 7), 3: (6, 5, 7)}


def planes(spatial, batch, innermost, values=None):
    """``[member, batch, channel, *size]``; ``innermost``: the batch's place in memory, as after a convolution."""
    shape = (MEMBERS, *([] if batch is None else [batch]), 2, *SIZES[spatial])
    generator = torch.Generator().manual_seed(0)
    if values is None:
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
    else:
        x = values[torch.randint(len(values), shape, generator=generator)]
    if innermost and batch is not None:
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    return x.requires_grad_()


@st.composite
def pools(draw):
    spatial = draw(st.integers(1, 3))
    each = lambda strategy: st.one_of(strategy, st.tuples(*[strategy] * spatial))  # noqa: E731
    kernel = draw(st.integers(1, 3))
    settings = {
        "kernel_size": kernel,
        "stride": draw(st.none() | each(st.integers(1, 3))),
        "padding": draw(each(st.integers(0, kernel // 2))),
        "ceil_mode": draw(st.booleans()),
    }
    if draw(st.booleans()):
        return (
            MAX[spatial],
            spatial,
            {**settings, "dilation": draw(each(st.integers(1, 2))), "return_indices": draw(st.booleans())},
        )
    return AVERAGE[spatial], spatial, {**settings, "count_include_pad": draw(st.booleans())}


@settings(max_examples=100, deadline=None)
@given(pools(), st.sampled_from([None, 1, 4]), st.booleans())
def test_values_indices_and_gradients_are_torch_s(pool, batch, innermost):
    function, spatial, arguments = pool
    assert_lowered(lambda x: function(x, **arguments), [planes(spatial, batch, innermost)], [True])


@pytest.mark.parametrize("innermost", [True, False])
@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_the_first_of_several_maxima_gets_the_gradient_and_nan_passes(spatial, innermost):
    pool = lambda x: MAX[spatial](x, 3, 2, 1, return_indices=True)  # noqa: E731
    ties = torch.tensor([0.0, 1.0, -0.0, -torch.inf, torch.inf], dtype=torch.float64)
    assert_lowered(pool, [planes(spatial, 4, innermost, ties)], [True], tolerance=0)
    rare = torch.tensor([0.0, 1.0, 2.0, 3.0, torch.nan], dtype=torch.float64)
    assert_lowered(pool, [planes(spatial, 4, innermost, rare)], [True], tolerance=0)


@pytest.mark.parametrize("innermost", [True, False])
@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_adaptive_pools(spatial, innermost):
    x = planes(spatial, 4, innermost)
    for size in (1, 3):
        assert_lowered(lambda x, s=size: ADAPTIVE_AVERAGE[spatial](x, s), [x], [True])
        for indices in (True, False):
            assert_lowered(
                lambda x, s=size, i=indices: ADAPTIVE_MAX[spatial](x, s, return_indices=i), [x], [True]
            )


@pytest.mark.parametrize("layer", [nn.LPPool1d(2, 3), nn.LPPool2d(1.5, 2), nn.LPPool3d(2, 2)], ids=str)
def test_power_average_pools(layer):
    spatial = int(type(layer).__name__[6])
    values = torch.linspace(0.1, 2, 40, dtype=torch.float64)
    assert_lowered(layer, [planes(spatial, 4, True, values)], [True])


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_unpooling_undoes_it(spatial):
    unpool = {1: F.max_unpool1d, 2: F.max_unpool2d, 3: F.max_unpool3d}[spatial]

    def there_and_back(x):
        pooled, places = MAX[spatial](x, 2, return_indices=True)
        return unpool(pooled.square(), places, 2, output_size=x.shape[-spatial:])

    assert_lowered(there_and_back, [planes(spatial, 4, True)], [True])


def test_the_batch_stays_innermost():
    x = planes(2, 4, True)

    def one(x):
        with lowered(None, batched=True):
            return F.max_pool2d(x, 2)

    assert torch.vmap(one)(x).stride(1) == 1
