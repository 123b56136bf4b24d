import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspace.optimizers import clip_by_norm, clip_by_value

few = settings(deadline=None, max_examples=20, derandomize=True, database=None)


def clip_norm_by_torch(gradient, limit):
    row = torch.nn.Parameter(torch.zeros_like(gradient))
    row.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_([row], limit)
    return row.grad


def clip_value_by_torch(gradient, limit):
    row = torch.nn.Parameter(torch.zeros_like(gradient))
    row.grad = gradient.clone()
    torch.nn.utils.clip_grad_value_([row], limit)
    return row.grad


BOTH = pytest.mark.parametrize(
    ("clip", "by_torch"), [(clip_by_norm, clip_norm_by_torch), (clip_by_value, clip_value_by_torch)]
)


def column(limits):
    return torch.tensor(limits, dtype=torch.float64)[:, None]


def gradients(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(6, 33, generator=generator, dtype=dtype)
    gradient[1] = 0
    gradient[2, 5] = torch.inf
    gradient[3, 5] = torch.nan
    return gradient


@BOTH
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
@few
@given(limits=st.lists(st.floats(1e-3, 20.0), min_size=6, max_size=6))
def test_every_row_is_clipped_as_torch_clips_it_alone(clip, by_torch, dtype, tolerance, limits):
    received = clip(gradients(dtype), column(limits))
    expected = torch.stack(
        [by_torch(row, limit) for row, limit in zip(gradients(dtype), limits, strict=True)]
    )
    assert torch.allclose(received, expected, rtol=tolerance, atol=0, equal_nan=True)
    assert received.dtype == dtype


@BOTH
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_no_limit_is_the_identity_bit_for_bit(clip, by_torch, dtype):
    gradient = gradients(dtype)
    assert clip(gradient, column([torch.inf] * 6)).numpy().tobytes() == gradient.numpy().tobytes()


@BOTH
@few
@given(rows=st.permutations(range(6)), count=st.integers(1, 6))
def test_the_other_rows_change_no_bit(clip, by_torch, rows, count):
    gradient, limits = gradients(torch.float32), column([0.5, 1.0, 2.0, 3.0, torch.inf, 0.1])
    rows = rows[:count]
    together = clip(gradient, limits)[rows]
    assert clip(gradient[rows], limits[rows]).numpy().tobytes() == together.numpy().tobytes()
