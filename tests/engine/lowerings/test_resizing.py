"""Interpolation, unpooling and sampling grids against torch's own, member after member."""

import pytest
import torch
import torch.nn.functional as F
from engine.members import MEMBERS, assert_lowered
from hypothesis import given, settings
from hypothesis import strategies as st

SIZES = {1: (7,), 2: (5, 6), 3: (4, 3, 5)}
MODES = {
    1: ["nearest", "nearest-exact", "area", "linear"],
    2: ["nearest", "nearest-exact", "area", "bilinear", "bicubic"],
    3: ["nearest", "nearest-exact", "area", "trilinear"],
}


def planes(spatial, innermost):
    x = torch.randn(MEMBERS, 4, 2, *SIZES[spatial], dtype=torch.float64)
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
    assert_lowered(lambda x: F.interpolate(x, **arguments), [planes(spatial, innermost)], [True])


@pytest.mark.parametrize("innermost", [True, False])
@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_unpooling(spatial, innermost):
    pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[spatial]
    unpool = {1: F.max_unpool1d, 2: F.max_unpool2d, 3: F.max_unpool3d}[spatial]
    x = planes(spatial, innermost)
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
