"""Columns or a grouped convolution: tried once for each shape, by whichever the machine does faster."""

import pytest
import torch
import torch.nn.functional as F

from modelspace.engine.lowerings import convolution, lowered
from modelspace.engine.lowerings.convolution import grouped_is_faster

ONES = ((1, 1), (1, 1), (1, 1))


@pytest.fixture(params=[0.5, 3.0], ids=["columns", "grouped"])
def gain(request, monkeypatch):
    monkeypatch.setattr(convolution, "gain", lambda name, trial: request.param)
    return request.param


@pytest.mark.parametrize("own", [False, True])
def test_both_forms_are_the_convolution(gain, own):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(
        *([3] if own else []), 4, 2, 6, 5, generator=generator, dtype=torch.float64
    ).requires_grad_()
    w = torch.randn(3, 5, 2, 3, 3, generator=generator, dtype=torch.float64).requires_grad_()

    def one(x, w):
        with lowered(None, batched=True):
            return F.conv2d(x, w, stride=2, padding=1)

    found = torch.vmap(one, in_dims=(0 if own else None, 0))(x, w)
    expected = torch.stack([F.conv2d(x[k] if own else x, w[k], stride=2, padding=1) for k in range(3)])
    assert torch.allclose(found, expected)
    seed = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    for ours, plain in zip(
        torch.autograd.grad(found, [x, w], seed), torch.autograd.grad(expected, [x, w], seed), strict=True
    ):
        assert torch.allclose(ours, plain)


def test_a_trial_times_both_forms(monkeypatch):
    timed = []
    monkeypatch.setattr(convolution, "seconds_of", lambda call: timed.append(call()) or 1.0)
    monkeypatch.setattr(convolution, "gain", lambda name, trial: (lambda a, b: a / b)(*trial()))
    x, w = torch.randn(2, 4, 3, 6, 6), torch.randn(2, 5, 3, 3, 3)
    # Columns: laid out, added up again, and four products of which the faster of two counts; grouped: there and back.
    assert grouped_is_faster(x, w, True, *ONES) == (5 / 2 > 1.5)
    assert len(timed) == 7


def test_shapes_without_values_choose_as_the_run_does(gain):
    x, w = torch.empty(2, 4, 3, 6, 6), torch.empty(2, 5, 3, 3, 3)
    assert grouped_is_faster(x.to("meta"), w.to("meta"), True, *ONES) == grouped_is_faster(x, w, True, *ONES)


def test_what_is_too_large_to_be_tried_is_grouped_unless_its_columns_are_the_image(monkeypatch):
    monkeypatch.setattr(convolution, "gain", None)
    x = torch.empty(2, 32, 64, 224, 224, device="meta")
    assert grouped_is_faster(x, torch.empty(2, 64, 64, 3, 3, device="meta"), True, *ONES)
    assert not grouped_is_faster(x, torch.empty(2, 64, 64, 1, 1, device="meta"), True, *ONES)
