"""Losses without a batching rule against torch's own, member after member."""

import pytest
import torch
import torch.nn.functional as F
from engine.members import MEMBERS, assert_lowered
from hypothesis import given, settings
from hypothesis import strategies as st

from modelspace.engine.lowerings import lowered

SAMPLES, CLASSES = 4, 5
REDUCTIONS = ["none", "mean", "sum"]


def normal(*shape):
    return torch.randn(MEMBERS, *shape, dtype=torch.float64).requires_grad_()


signs = torch.tensor([1.0, -1, -1, 1], dtype=torch.float64)
weights = torch.tensor([0.5, 1, 2, 0.1, 3], dtype=torch.float64)
sets = torch.tensor([[0, 2, -1, 0, 0], [-1, 1, 1, 1, 1], [4, 3, 2, 1, 0], [1, -1, 0, 0, 0]])
outputs = lambda: normal(SAMPLES, CLASSES)  # noqa: E731
classes = torch.tensor([0, 3, 3, 1])
LOSSES = {
    "soft margin": (F.soft_margin_loss, lambda: [normal(SAMPLES), signs], {}),
    "margin ranking": (F.margin_ranking_loss, lambda: [normal(4), normal(4), signs], {"margin": 0.3}),
    "multi margin": (F.multi_margin_loss, lambda: [outputs(), classes], {"weight": weights, "margin": 0.7}),
    "multi margin squared": (F.multi_margin_loss, lambda: [outputs(), classes], {"p": 2}),
    "multi margin of one": (F.multi_margin_loss, lambda: [normal(CLASSES), torch.tensor(2)], {}),
    "multilabel margin": (F.multilabel_margin_loss, lambda: [outputs(), sets], {}),
    "multilabel margin of one": (F.multilabel_margin_loss, lambda: [normal(CLASSES), sets[0]], {}),
    "triplet": (F.triplet_margin_loss, lambda: [outputs(), outputs(), outputs()], {"p": 1.5}),
    "triplet swapped": (F.triplet_margin_loss, lambda: [outputs(), outputs(), outputs()], {"swap": True}),
}


def owned(tensors):
    """Which tensors have a member axis: those that require a gradient."""
    return [x.requires_grad for x in tensors]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_margins(name, reduction):
    loss, make, arguments = LOSSES[name]
    tensors = make()
    compute = lambda *x: loss(*x, reduction=reduction, **arguments)  # noqa: E731
    assert_lowered(compute, tensors, owned(tensors))
    own = [x if x.requires_grad else x.expand(MEMBERS, *x.shape) for x in tensors]
    assert_lowered(compute, own, [True] * len(own))


@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
@pytest.mark.parametrize("logarithms", [True, False])
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss")
def test_divergence(logarithms, reduction):
    target = torch.rand(SAMPLES, CLASSES, dtype=torch.float64)
    target[0, 0] = 0 if not logarithms else -3

    def loss(x):
        return F.kl_div(F.log_softmax(x, -1), target, reduction=reduction, log_target=logarithms)

    assert_lowered(loss, [outputs()], [True])


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("full", [True, False])
def test_gaussian_likelihood(full, reduction):
    x, target = outputs(), torch.randn(SAMPLES, CLASSES, dtype=torch.float64)
    arguments = {"full": full, "reduction": reduction, "eps": 0.3}
    for variances in (normal(SAMPLES, CLASSES), normal(SAMPLES), normal(SAMPLES, 1)):
        assert_lowered(
            lambda x, v: F.gaussian_nll_loss(x, target, v.exp() - 0.9 * v.exp().detach(), **arguments),
            [x, variances],
            [True, True],
        )
    assert_lowered(lambda x: F.gaussian_nll_loss(x, target, 0.7, **arguments), [x], [True])


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(REDUCTIONS), st.booleans(), st.sampled_from(["square", "flat", "single"]), st.booleans()
)
def test_ctc(reduction, zero_infinity, kind, short):
    time, samples = 6, 1 if kind == "single" else 3
    lengths = torch.tensor([6, 2 if short else 6, 5])[:samples]
    target_lengths = torch.tensor([2, 3, 0])[:samples]
    targets = {
        "square": torch.tensor([[1, 2, 0], [3, 3, 1], [1, 1, 1]]),
        "flat": torch.tensor([1, 2, 3, 3, 1]),
        "single": torch.tensor([1, 2]),
    }[kind]
    x = normal(time, CLASSES) if kind == "single" else normal(time, samples, CLASSES)
    if kind == "single":
        lengths, target_lengths = lengths[0], target_lengths[0]

    def loss(x):
        arguments = {"reduction": reduction, "zero_infinity": zero_infinity}
        return F.ctc_loss(F.log_softmax(x, -1), targets, lengths, target_lengths, **arguments)

    if zero_infinity or not short or kind == "single":
        assert_lowered(loss, [x], [True])


@pytest.mark.skipif(not hasattr(F, "linear_cross_entropy"), reason="since torch 2.13")
def test_cross_entropy_of_a_linear_layer_in_chunks():
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=2)

    def loss(x, w):
        return F.linear_cross_entropy(x, w, classes, options=options)

    assert_lowered(loss, [normal(SAMPLES, 3), normal(CLASSES, 3)], [True, True])


def test_a_loss_may_be_infinite():
    logits = torch.full((MEMBERS, 2), -1000.0)

    def one(x):
        with lowered(None, batched=True):
            return F.soft_margin_loss(x, torch.ones(2))

    assert torch.vmap(one)(logits).isinf().all()
    assert F.soft_margin_loss(logits[0], torch.ones(2)).isinf()
