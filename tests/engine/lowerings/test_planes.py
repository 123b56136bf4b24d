"""Pooling, interpolation, unpooling and sampling grids against torch's own, member after member."""

import pytest
import torch
import torch.nn.functional as F
from engine.members import MEMBERS, assert_lowered
from hypothesis import given, settings
from hypothesis import strategies as st
from support.drawing import SEEDS, assert_same_in_any_packing, drawn, drawn_together
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


SIZES_RESIZED = {1: (7,), 2: (5, 6), 3: (4, 3, 5)}
MODES = {
    1: ["nearest", "nearest-exact", "area", "linear"],
    2: ["nearest", "nearest-exact", "area", "bilinear", "bicubic"],
    3: ["nearest", "nearest-exact", "area", "trilinear"],
}


def images_of(spatial, innermost):
    x = torch.randn(MEMBERS, 4, 2, *SIZES_RESIZED[spatial], dtype=torch.float64)
    return (x.movedim(1, -1).contiguous().movedim(-1, 1) if innermost else x).requires_grad_()


@st.composite
def resizings(draw):
    spatial = draw(st.integers(1, 3))
    mode = draw(st.sampled_from(MODES[spatial]))
    smooth = mode.endswith(("linear", "cubic"))
    size = tuple(draw(st.integers(2, 9)) for _ in range(spatial))
    return spatial, {
        **draw(st.sampled_from([{"size": size}, {"scale_factor": 2.0}, {"scale_factor": 0.6}])),
        "mode": mode,
        "align_corners": draw(st.booleans()) if smooth else None,
        "antialias": mode in ("bilinear", "bicubic") and draw(st.booleans()),
    }


@settings(max_examples=60, deadline=None)
@given(resizings(), st.booleans())
def test_interpolation(problem, innermost):
    spatial, arguments = problem
    assert_lowered(lambda x: F.interpolate(x, **arguments), [images_of(spatial, innermost)], [True])


@pytest.mark.parametrize("innermost", [True, False])
@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_unpooling(spatial, innermost):
    pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[spatial]
    unpool = {1: F.max_unpool1d, 2: F.max_unpool2d, 3: F.max_unpool3d}[spatial]
    x = images_of(spatial, innermost)
    pooled, places = pool(x.detach().flatten(0, 1), 2, return_indices=True)
    pooled, places = (
        y.unflatten(0, x.shape[:2]).requires_grad_(y.is_floating_point()) for y in (pooled, places)
    )
    size = x.shape[-spatial:]
    assert_lowered(lambda y, i: unpool(y, i, 2, output_size=size), [pooled, places], [True, True])
    assert_lowered(lambda y, i: unpool(y, i, 2, output_size=size), [pooled, places[0]], [True, False])
    assert_lowered(lambda y, i: unpool(y, i, 2, output_size=size), [pooled[:, 0], places[:, 0]], [True, True])


@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.parametrize("shape", [(4, 2, 5, 6), (4, 2, 4, 3, 5)], ids=str)
def test_grids_of_matrices_and_samples_at_them(shape, corners):
    axes = len(shape) - 2
    matrices = torch.randn(MEMBERS, 4, axes, axes + 1, dtype=torch.float64).requires_grad_()
    images = torch.randn(shape, dtype=torch.float64).requires_grad_()

    def sampled(matrices, images):
        grid = F.affine_grid(matrices, images.shape, align_corners=corners)
        return F.grid_sample(images, grid, align_corners=corners)

    assert_lowered(sampled, [matrices, images], [True, False])
    assert_lowered(sampled, [matrices, images.expand(MEMBERS, *shape)], [True, True])


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
