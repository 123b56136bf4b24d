"""Properties: what a rule says of a family of models is what arithmetic says."""

from fractions import Fraction

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import modelspace as ms

few = settings(max_examples=8, deadline=None)


class Viewed(nn.Module):
    """A convolution, and rows of as many numbers as a sample of the declared size has."""

    def __init__(self, channels, kernel, size):
        super().__init__()
        self.conv = nn.Conv2d(1, channels, kernel)
        self.width = channels * (size - kernel + 1) ** 2
        self.head = nn.Linear(self.width, 3)

    def forward(self, x):
        return self.head(self.conv(x).relu().view(-1, self.width))


@few
@given(channels=st.integers(1, 4), kernel=st.integers(1, 3), size=st.integers(4, 8))
def test_rows_at_other_sizes(channels, kernel, size):
    found = ms.doctor(lambda: Viewed(channels, kernel, size), inputs=(1, size, size), only=["batch-reshape"])
    evidence = found.of("batch-reshape")[0].evidence
    named = 0
    for other in range(kernel, 5 * size + 1):
        ratio = Fraction((other - kernel + 1) ** 2, (size - kernel + 1) ** 2)
        if f" {other}×{other} gives" in f" {evidence}":
            named += 1
            assert ratio.denominator == 1
            assert f"{other}×{other} gives {ratio.numerator}B rows" in evidence
        elif f" {other}×{other} mixes" in f" {evidence}":
            named += 1
            assert f"a batch of {ratio.denominator} becomes {ratio.numerator} row" in evidence
    assert named


@few
@given(width=st.integers(1, 6), used=st.sets(st.integers(0, 5)))
def test_exactly_the_layers_that_are_left_out_are_unused(width, used):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(width))
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            for i, layer in enumerate(self.layers):
                x = layer(x).tanh() if i in used else x
            return self.head(x)

    found = ms.doctor(Net, inputs=(4,), only=["unused-parameters"]).of("unused-parameters")
    left = {f"layers.{i}" for i in range(width)} - {f"layers.{i}" for i in used}
    assert bool(found) == bool(left)
    if found:
        assert f"{20 * len(left):,} numbers" in found[0].evidence


@few
@given(factor=st.sampled_from([0.25, 0.5, 2.0, 3.0, 10.0]))
def test_the_factor_of_a_loss_is_named(factor):
    def scaled(z, y):
        return factor * torch.nn.functional.mse_loss(z, y)

    found = ms.doctor(nn.Linear(2, 1), inputs=(2,), loss=scaled, formula="mse", only=["not-the-formula"])
    assert f"it is {factor:g} times the formula" in found.findings[0].evidence


@few
@given(features=st.integers(2, 5), broken=st.integers(0, 4))
def test_samples_mix_exactly_where_a_softmax_runs_over_the_batch(features, broken):
    dims = [0 if i == broken else 1 for i in range(4)]
    layers = [layer for dim in dims for layer in (nn.Linear(features, features), nn.Softmax(dim=dim))]
    found = ms.doctor(nn.Sequential(*layers), inputs=(features,), only=["batch-mixing"])
    assert bool(found.of("batch-mixing")) == (0 in dims)
    if found.findings:
        assert found.findings[0].where == f"{2 * broken + 1} (Softmax)"
