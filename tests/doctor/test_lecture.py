"""The lecture *Espacio de modelos*: its network, and the four losses that are not the formulas above them."""

import pytest
from torch import nn

import modelspace as ms
from modelspace.examples import DummyNet

SHAPE = (3, 7, 7)


def findings(loss, formula):
    found = ms.doctor(DummyNet, inputs=SHAPE, loss=loss, formula=formula, ignore=["cannot-overfit"])
    return {finding.rule: finding for finding in found.findings}


def test_half_the_squared_error_is_not_mse():
    found = findings(nn.MSELoss(), "least_squares")
    assert "2 times the formula" in found["not-the-formula"].evidence
    assert "0.5 * loss" in found["not-the-formula"].fix


def test_the_logistic_loss_is_not_nll():
    found = findings(nn.NLLLoss(), "logistic")
    assert "raises" in found["not-the-formula"].evidence
    assert "logsumexp" in found["log-probabilities-expected"].evidence
    assert "dummynet.py:18" in found["log-probabilities-expected"].where


def test_the_hinge_loss_is_not_bce():
    found = findings(nn.BCELoss(), "hinge")
    assert "raises" in found["not-the-formula"].evidence
    assert "outside [0, 1]" in found["probabilities-expected"].evidence


def test_the_binary_cross_entropy_is_not_cross_entropy():
    found = findings(nn.CrossEntropyLoss(), "binary_cross_entropy")
    assert "the formula is" in found["not-the-formula"].evidence


def test_on_one_output_a_sample_cross_entropy_means_the_binary_formula():
    net = nn.Sequential(nn.Linear(5, 1), nn.Flatten(0), nn.Sigmoid())
    found = ms.doctor(net, inputs=(5,), loss=nn.CrossEntropyLoss(), formula="cross_entropy")
    assert found.of("not-the-formula")
    assert found.of("single-output")
    assert not ms.doctor(net, inputs=(5,), loss=nn.BCELoss(), formula="cross_entropy").of("not-the-formula")


@pytest.mark.parametrize(("size", "rows"), [(12, 4), (17, 9)])
def test_the_view_makes_other_rows_of_other_sizes(size, rows):
    seen = findings(nn.CrossEntropyLoss(), None)["batch-reshape"]
    assert seen.severity == "warning"
    assert f"{size}×{size} gives {rows}B rows" in seen.evidence
    # A plain run: conv 3×3 leaves size − 2, with 9 channels, in rows of 225.
    assert 9 * (size - 2) ** 2 == rows * 225


def test_the_view_mixes_samples_of_6x6():
    seen = findings(nn.CrossEntropyLoss(), None)["batch-reshape"]
    assert "6×6 mixes samples (a batch of 25 becomes 16 rows)" in seen.evidence
    assert "view(-1, 225)" in seen.evidence
    assert "dummynet.py:17" in seen.where


def test_the_relu_overwrites_what_a_hook_on_conv1_kept():
    seen = findings(nn.CrossEntropyLoss(), None)["inplace-hook"]
    assert seen.severity == "info"
    assert seen.where.startswith("conv1 (Conv2d)")


@pytest.mark.parametrize(
    ("loss", "formula"),
    [
        (nn.SoftMarginLoss(), "logistic"),
        (nn.BCEWithLogitsLoss(), "logistic"),
        (nn.CrossEntropyLoss(), "cross_entropy"),
        (nn.BCELoss(), "binary_cross_entropy"),
        (lambda z, y: 0.5 * nn.functional.mse_loss(z, y), "least_squares"),
        (lambda z, y: nn.functional.margin_ranking_loss(z, 0 * z, y, margin=1.0), "hinge"),
    ],
)
def test_what_is_the_formula_is_not_accused(loss, formula):
    assert "not-the-formula" not in findings(loss, formula)
