"""Every loss equals its formula, differentiates, is a function of columns, and stays finite at extreme outputs."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from losses.table import CASES, at, jaccard_loss, lovasz, whole
from support.sampled import sampled
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from modelspace import losses as ms
from modelspace.errors import ModelspaceError

every_case = pytest.mark.parametrize("case", CASES, ids=str)
MAY_BE_NEGATIVE = (ms.LocationScaleLoss, ms.Poisson, ms.Gamma)


@every_case
def test_equals_its_formula_in_every_reduction(case):
    for _ in range(3):
        outputs, labels = case.batch()
        exact = case.exact(outputs, labels)
        counted = [value for value in exact if value is not None]
        values = case.loss(outputs, labels, reduction="none").flatten().tolist()
        assert values == pytest.approx([value or 0 for value in exact], rel=1e-9, abs=1e-12)
        assert case.loss(outputs, labels).item() == pytest.approx(sum(counted) / len(counted), rel=1e-9)
        assert case.loss(outputs, labels, reduction="sum").item() == pytest.approx(sum(counted), rel=1e-9)
    with pytest.raises(ModelspaceError, match="unknown reduction 'average'"):
        case.loss(outputs, labels, reduction="average")


@pytest.mark.parametrize("case", sampled(CASES, 2), ids=str)
def test_gradient_and_curvature_equal_finite_differences(case):
    outputs, labels = case.batch()
    outputs.requires_grad_()
    assert gradcheck(lambda z: case.loss(z, labels, reduction="none"), outputs)
    assert gradgradcheck(
        lambda z: case.loss(z, labels, reduction="none").sum() + 0 * z.square().sum(), outputs
    )


@pytest.mark.parametrize("case", sampled(CASES, 2), ids=str)
def test_members_with_their_own_parameters_equal_the_loop(case):
    """Batched and traced, in float32, though columns are float64."""
    loss = case.loss
    batches = [case.batch(torch.float32) for _ in range(3)]
    outputs, labels = (torch.stack(parts) for parts in zip(*batches, strict=True))
    columns = {}
    for name, allowed in loss.ranges().items():
        low = 0.0 if allowed.low_included else 0.2
        columns[name] = max(allowed.low, 0) + torch.tensor([low, 0.5, 0.9], dtype=torch.float64)

    def score(z, y, values):
        return loss.at(values)(z, y)

    batched = vmap(grad(score))
    traced = make_fx(batched)(outputs, labels, columns)(outputs, labels, columns)
    slopes = batched(outputs, labels, columns)
    assert slopes.dtype is torch.float32
    for k in range(3):
        alone = loss.at({name: values[k].item() for name, values in columns.items()})
        expected = grad(lambda z, y=labels[k], loss=alone: loss(z, y))(outputs[k])
        assert expected.isfinite().all()
        torch.testing.assert_close(slopes[k], expected)
        torch.testing.assert_close(traced[k], expected)


DTYPES = {torch.float16: 1e3, torch.bfloat16: 1e3, torch.float32: 1e4, torch.float64: 1e4}


@every_case
def test_extreme_outputs_leave_value_and_gradient_finite(case):
    """Every size from tiny to the largest, in each dtype; half precision comes back as float32.

    By nature the cosine of a tiny embedding and, in half precision, the logarithm of a probability are too steep.
    """
    smallest = 0 if case.loss.outputs == "embedding" else -8
    for dtype, far in DTYPES.items():
        if case.loss.outputs == "probability" and dtype.itemsize == 2:
            continue
        sizes = torch.logspace(smallest, math.log10(far), 40, dtype=torch.float64)
        levels = torch.cat([-sizes, at(-1.0, 0.0, 1.0), sizes]).clamp(-far, far)
        for trial in range(12):
            _, labels = case.batch(dtype)
            drawn = levels[torch.randint(len(levels), case.shape)]
            outputs = torch.full_like(drawn, at(-far, -1, 0, 1, far)[trial].item()) if trial < 5 else drawn
            outputs = outputs.sigmoid() if case.loss.outputs == "probability" else outputs
            outputs = outputs.to(dtype).requires_grad_()
            values = case.loss(outputs, labels, reduction="none")
            (slope,) = torch.autograd.grad(case.loss(outputs, labels), outputs)
            assert values.dtype in (dtype, torch.float32)
            assert slope.dtype is dtype
            assert values.isfinite().all()
            assert slope.isfinite().all()
            assert isinstance(case.loss, MAY_BE_NEGATIVE) or values.min() >= -1e-9


@every_case
def test_no_step_of_the_gradient_is_nan_even_where_it_is_masked(case):
    outputs, labels = case.batch()
    outputs = torch.cat([outputs[:-1], 0 * outputs[-1:]])
    outputs = outputs.clamp(min=1e-3) if case.loss.outputs == "probability" else outputs
    with torch.autograd.set_detect_anomaly(True):
        torch.autograd.grad(case.loss(outputs.requires_grad_(), labels), outputs)


@every_case
def test_what_fits_is_accepted_and_a_sample_is_its_own(case):
    outputs, labels = case.batch()
    case.loss.check(outputs, labels)
    if not isinstance(case.loss, ms.EmbeddingLoss):
        alone = [case.loss(z[None], y[None], reduction="none") for z, y in zip(outputs, labels, strict=True)]
        torch.testing.assert_close(case.loss(outputs, labels, reduction="none"), torch.cat(alone))


@pytest.mark.parametrize(
    "loss", list(dict.fromkeys(c.loss for c in CASES if isinstance(c.loss, ms.MulticlassLoss))), ids=str
)
def test_what_is_left_out_counts_nothing(loss):
    outputs, labels = 3 * torch.randn(6, 4, dtype=torch.float64), torch.randint(4, (6,))
    kept = loss(outputs[2:], labels[2:])
    labels[:2] = -100
    torch.testing.assert_close(loss(outputs, labels), kept)
    assert loss(outputs, labels, reduction="none")[:2].tolist() == [0, 0]
    assert (grad(lambda z: loss(z, labels))(outputs)[:2] == 0).all()


@given(st.floats(-1000, 1000), st.sampled_from([-1, 1]))
@settings(max_examples=100, deadline=None)
def test_logistic_is_exact_for_every_margin(z, y):
    exact = max(-y * z, 0.0) + math.log1p(math.exp(-abs(z)))
    assert ms.Logistic()(at(z), whole(y)).item() == pytest.approx(exact, rel=1e-14, abs=1e-300)


@pytest.mark.parametrize("dtype", DTYPES)
def test_far_margins_are_exact_where_torch_s_own_overflow(dtype):
    outputs = torch.tensor([-1000.0, 1000.0], dtype=dtype, requires_grad=True)
    values = ms.Logistic()(outputs, torch.tensor([1, 1]), reduction="none")
    (slope,) = torch.autograd.grad(values.sum(), outputs)
    assert values.tolist() == [1000.0, 0.0]
    assert slope.tolist() == [-1.0, 0.0]
    theirs = F.soft_margin_loss(outputs.detach(), torch.ones(2, dtype=dtype), reduction="none")
    assert theirs[0] == math.inf, "torch repaired soft_margin_loss: say so in the docstring"


@pytest.mark.parametrize(
    ("dtype", "knee"), [(torch.float16, 8.0), (torch.float32, 64.0), (torch.float64, 512.0)]
)
def test_the_exponential_loss_goes_on_along_its_tangent(dtype, knee):
    z = torch.tensor([-knee + 1, -knee, -knee - 1, -knee - 3], dtype=dtype, requires_grad=True)
    values = ms.Exponential()(z, torch.ones(4), reduction="none")
    top = math.exp(knee)
    torch.testing.assert_close(values.double(), at(top / math.e, top, 2 * top, 4 * top), rtol=1e-5, atol=0)
    (slope,) = torch.autograd.grad(values.sum(), z)
    assert slope[2] == slope[3]
    assert slope[3].item() == pytest.approx(-top, rel=2e-3)


def test_half_precision_outgrows_neither_squares_nor_sums():
    z = torch.tensor([1000.0], dtype=torch.float16)
    assert F.mse_loss(z, 0 * z).item() == math.inf
    assert ms.LeastSquares()(z, 0 * z).item() == 500_000
    assert ms.Poisson()(torch.tensor([1000.0]), torch.zeros(1)).isfinite()
    scores = torch.full((1, 200), 1e3, dtype=torch.float16)
    scores[0, 0] = -1e3
    assert (F.multi_margin_loss(scores.float(), torch.tensor([0])) * 200).half().isinf()
    assert ms.WestonWatkins()(scores, torch.tensor([0])).item() == 199 * 2001


@pytest.mark.parametrize("loss", [ms.PseudoHuber(), ms.LogCosh(), ms.Cauchy(), ms.Tukey()], ids=str)
def test_small_residuals_do_not_cancel_in_single_precision(loss):
    z = torch.tensor([1e-6, 1e-3, -1e-4])
    torch.testing.assert_close(loss(z, 0 * z, reduction="none"), z.square() / 2, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    "loss", [ms.LeastSquares(), ms.Huber(), ms.PseudoHuber(), ms.LogCosh(), ms.Cauchy(), ms.Tukey()]
)
def test_at_nought_the_slope_is_0_and_the_curvature_1(loss):
    first = grad(lambda z: loss(z, at(0.0)))
    assert first(at(0.0)).item() == 0
    assert grad(lambda z: first(z).sum())(at(0.0)).item() == pytest.approx(1)


def test_the_slope_at_the_threshold_is_that_of_both_sides():
    slope = grad(lambda z: ms.Cauchy(1.5)(z, torch.zeros(1)))
    assert slope(torch.tensor([1.5])).item() == pytest.approx(0.75)
    assert grad(lambda z: ms.Huber(1.5)(z, torch.zeros(1)))(torch.tensor([1.5])).item() == 1.5


def test_binary_cross_entropy_clamps_the_logarithm():
    values = ms.BinaryCrossEntropy()(torch.tensor([0.0, 1.0, 1.0]), torch.tensor([1, 0, 1]), reduction="none")
    assert values.tolist() == [100.0, 100.0, 0.0]


def test_cross_entropy_takes_class_probabilities():
    outputs, labels = torch.randn(8, 4, 2, dtype=torch.float64), torch.randint(4, (8, 2))
    soft = torch.movedim(F.one_hot(labels, 4), -1, 1).to(outputs)
    torch.testing.assert_close(ms.CrossEntropy()(outputs, soft), ms.CrossEntropy()(outputs, labels.int()))


def test_embeddings_without_direction_distance_or_partner_have_a_gradient_of_0():
    same = torch.ones(3, 2)
    assert grad(lambda x: (x[0] - x[1]).square().sum().sqrt())(same).isnan().any()
    assert (grad(lambda x: ms.Triplet()(x, torch.tensor([0, 0, 1])))(same) == 0).all()
    z, labels = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0, 1])
    values = ms.InfoNCE(1.0)(z, labels, reduction="none")
    torch.testing.assert_close(values, torch.tensor([2.0, 2.0, 1.0]).log() * torch.tensor([1, 1, 0]))
    assert (grad(lambda x: ms.InfoNCE(1.0)(x, labels))(z)[0] == 0).all()
    for loss in (ms.InfoNCE(), ms.Triplet()):
        assert loss(z, torch.arange(3)) == 0
        alone = z[1:2].clone().requires_grad_()
        with torch.autograd.set_detect_anomaly(True):
            (slope,) = torch.autograd.grad(loss(alone, torch.tensor([3])), alone)
        assert (slope == 0).all()
    assert ms.Triplet()(torch.randn(4, 3), torch.zeros(4).long()) == 0  # no strangers


def test_nothing_to_find_and_nothing_found_is_no_loss():
    z, y = torch.full((1, 6), -30.0), torch.zeros(1, 6).long()
    for loss in (ms.Dice(), ms.Tversky(), ms.FocalTversky(), ms.LovaszHinge()):
        assert loss(z, y).item() == pytest.approx(0, abs=1e-9)


def test_masks_may_be_booleans_or_bytes():
    z, y, maps = torch.randn(3, 5), torch.randint(2, (3, 5)), torch.randn(3, 2, 5)
    for kind in (torch.bool, torch.uint8, torch.float64):
        for loss in (ms.Dice(), ms.Tversky(), ms.LovaszHinge()):
            loss.check(z, y.to(kind))
            assert loss(z, y.to(kind)) == loss(z, y)
        if kind is not torch.float64:
            assert ms.Dice()(maps, y.to(kind)) == ms.Dice()(maps, y)


def test_coral_s_probabilities_are_never_negative():
    found = ms.Coral().probability(torch.tensor([[0.0, 5.0, -1.0]]))  # contradicting
    low = torch.sigmoid(torch.tensor(-1.0)).item()
    assert found[0].tolist() == pytest.approx([0.5, 0, 0.5 - low, low])


def test_the_table_s_extension_is_the_set_function_on_sets():
    for region in ({0, 2}, set(), {0, 1, 2, 3}):
        for wrong in ({1}, {0, 1}, {2, 3}, set()):
            errors = [float(i in wrong) for i in range(4)]
            assert lovasz(errors, region) == pytest.approx(jaccard_loss(wrong, region))
