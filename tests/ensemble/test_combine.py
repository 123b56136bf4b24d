"""Combinations, uncertainty and scores, against their formulas in NumPy and SciPy."""

import numpy as np
import pytest
import torch
from scipy import special
from torch import nn

from modelspace import losses
from modelspace.ensemble._combine import (
    check_combination,
    combined,
    foreignness,
    judge,
    predictions,
    score,
    tempered,
    uncertainty_of,
    usual_combination,
)
from modelspace.errors import ModelspaceError

K, N, C = 6, 40, 5
CROSS_ENTROPY, LOGISTIC, GAUSSIAN = map(losses.resolve, ("cross_entropy", "logistic", "gaussian"))


@pytest.fixture
def given():
    """Logits, labels and unequal weights."""
    draws = np.random.default_rng(0)
    z, y, w = draws.normal(size=(K, N, C)) * 2, draws.integers(0, C, N), draws.random(K) + 0.1
    return torch.tensor(z), torch.tensor(y), torch.tensor(w / w.sum())


LINKS = [  # the loss, what turns its outputs into predictions, the usual combination
    ("cross_entropy", lambda z: special.softmax(z, -1), "mean"),
    ("focal(gamma=1)", lambda z: special.softmax(z, -1), "mean"),
    (nn.CrossEntropyLoss(label_smoothing=0.1), lambda z: special.softmax(z, -1), "mean"),
    ("nll_loss", np.exp, "mean"),
    ("logistic", special.expit, "mean"),
    (nn.BCEWithLogitsLoss(), special.expit, "mean"),
    ("soft_margin_loss", special.expit, "mean"),
    ("multilabel_logistic", special.expit, "mean"),
    ("squared_margin", lambda z: np.clip((z + 1) / 2, 0, 1), "mean"),
    ("binary_cross_entropy", lambda z: z, "mean"),
    ("crammer_singer", lambda z: z, "vote"),
    ("hinge", lambda z: z, "vote"),
    (nn.MultiMarginLoss(), lambda z: z, "vote"),
    ("least_squares", lambda z: z, "mean"),
    ("poisson", np.exp, "mean"),
    ("poisson_nll", np.exp, "mean"),
]


@pytest.mark.parametrize(("loss", "link", "how"), LINKS, ids=[str(loss) for loss, *_ in LINKS])
def test_predictions_are_by_the_loss_s_link(loss, link, how, given):
    z, loss = given[0], losses.resolve(loss)
    assert np.allclose(predictions(loss, z), link(z.numpy()), rtol=1e-12)
    assert usual_combination(loss) == how
    check_combination(how, loss)


def test_combinations_are_their_formulas(given):
    z, _, w = given
    p, weights = special.softmax(z.numpy(), -1), w.numpy()[:, None, None]
    geometric = np.prod(p**weights, 0)
    votes = (p == p.max(-1, keepdims=True)).astype(float)
    expected = {
        "mean": (weights * p).sum(0),
        "geometric": geometric / geometric.sum(-1, keepdims=True),
        "vote": (weights * votes).sum(0),
    }
    for how, value in expected.items():
        assert np.allclose(combined(how, CROSS_ENTROPY, z, w), value, rtol=1e-12)
    s = special.expit(z.numpy())
    odds = (weights * z.numpy()).sum(0)
    binary = {
        "mean": (weights * s).sum(0),
        "geometric": special.expit(odds),
        "vote": (weights * (z.numpy() > 0)).sum(0),
    }
    for how, value in binary.items():
        assert np.allclose(combined(how, LOGISTIC, z, w), value, rtol=1e-12)
    assert np.allclose(combined("vote", losses.resolve("hinge"), z, w), binary["vote"], rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "variance"), [("gaussian", np.exp), ("laplace", lambda s: 2 * np.exp(2 * s))]
)
def test_a_mixture_has_the_moments_of_its_parts(name, variance, given):
    loss, w = losses.resolve(name), given[2].numpy()[:, None]
    z = torch.randn(K, N, 2, dtype=torch.float64)
    m, v = z[:, :, 0].numpy(), variance(z[:, :, 1].numpy())
    mean = (w * m).sum(0)
    total = (w * (v + m**2)).sum(0) - mean**2  # E y² − (E y)²
    found = combined("mixture", loss, z, given[2])
    assert np.allclose(found[:, 0], mean, atol=1e-12)
    assert np.allclose(variance(found[:, 1].numpy()), total, rtol=1e-12)
    sure = uncertainty_of(loss, z, given[2])
    assert np.allclose(sure.total, total, rtol=1e-12)
    assert np.allclose(sure.aleatoric, (w * v).sum(0), rtol=1e-12)
    assert torch.allclose(combined("mean", loss, z, given[2]), found[:, 0])


def test_identities_of_ensembles(given):
    """To 1e-12: NLL(p̄) ≤ mean NLL; Brier(p̄) = mean Brier − variance; H(p̄) = mean H + mean KL(p_k ‖ p̄)."""
    z, y, w = given
    p, mean = z.softmax(2), combined("mean", CROSS_ENTROPY, z, w)
    nll, brier = (judge(CROSS_ENTROPY, "mean", name) for name in ("log_loss", "brier"))
    own = torch.tensor(
        [[score(CROSS_ENTROPY, each, y, m) for each in p] for m in (nll, brier)], dtype=torch.float64
    )
    whole = [score(CROSS_ENTROPY, mean, y, m) for m in (nll, brier)]
    assert np.isclose(
        float(own[0] @ w),
        float(sum(w * nn.functional.nll_loss(p.log().mT, y.expand(K, -1), reduction="none").mean(1))),
    )
    assert whole[0] <= float(own[0] @ w) + 1e-12
    variance = torch.einsum("k,knc->n", w, (p - mean).square()).mean()
    assert whole[1] == pytest.approx(float(own[1] @ w - variance), abs=1e-12)
    sure = uncertainty_of(CROSS_ENTROPY, z, w)
    divergence = torch.einsum("k,knc->n", w, p * (p / mean).log())
    assert torch.allclose(sure.epistemic, divergence, rtol=0, atol=1e-12)
    assert torch.allclose(sure.total, -(mean * mean.log()).sum(1), rtol=0, atol=1e-12)
    assert torch.allclose(sure.aleatoric + sure.epistemic, sure.total, rtol=0, atol=1e-12)
    s, q = z.sigmoid(), combined("mean", LOGISTIC, z, w)
    binary = uncertainty_of(LOGISTIC, z, w)
    kl = torch.einsum("k,knc->nc", w, s * (s / q).log() + (1 - s) * ((1 - s) / (1 - q)).log())
    assert torch.allclose(binary.epistemic, kl, rtol=0, atol=1e-12)
    values = uncertainty_of(None, z, w)
    assert values.total is values.aleatoric is None
    assert torch.allclose(
        values.epistemic, torch.einsum("k,knc->nc", w, z**2) - torch.einsum("k,knc->nc", w, z) ** 2
    )


def test_a_temperature_softens():
    p = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64)
    t = torch.tensor(2.0, dtype=torch.float64)
    assert torch.allclose(tempered(p, t / 2, CROSS_ENTROPY), p, rtol=1e-15)
    assert torch.allclose(tempered(p, t, CROSS_ENTROPY), (p.log() / 2).softmax(1), rtol=1e-12)
    assert torch.allclose(tempered(p, t, LOGISTIC), (torch.logit(p) / 2).sigmoid(), rtol=1e-12)
    located = torch.tensor([[0.3, -1.0]], dtype=torch.float64)
    assert torch.allclose(tempered(located, t, GAUSSIAN)[:, 1].exp(), 2 * located[:, 1].exp())
    laplace = tempered(located, t, losses.resolve("laplace"))
    assert torch.allclose(2 * laplace[:, 1].exp() ** 2, 2 * 2 * located[:, 1].exp() ** 2)
    assert torch.equal(tempered(p, t, None), p)


def test_scores_of_foreignness(given):
    z, _, w = given
    p = (w.numpy()[:, None, None] * special.softmax(z.numpy(), -1)).sum(0)
    found = foreignness(CROSS_ENTROPY, z, w)
    assert np.allclose(found["max_probability"], 1 - p.max(-1))
    assert np.allclose(found["entropy"], special.entr(p).sum(-1))
    assert np.allclose(found["energy"], -(w.numpy()[:, None] * special.logsumexp(z.numpy(), -1)).sum(0))
    one = foreignness(LOGISTIC, z[..., 0], w)
    two = foreignness(CROSS_ENTROPY, torch.stack([-z[..., 0] / 2, z[..., 0] / 2], 2), w)
    assert all(torch.allclose(one[name], two[name]) for name in two)
    assert list(foreignness(None, z, w)) == ["variance"]
    assert foreignness(None, z, w)["variance"].shape == (N,)


@pytest.mark.parametrize(
    ("how", "loss", "match"),
    [
        ("mena", "cross_entropy", "unknown combination 'mena': did you mean 'mean'?"),
        ("vote", None, "where the loss is not known; give loss='cross_entropy'"),
        ("mixture", "cross_entropy", "no combination of outputs of 'cross_entropy' .*mean, geometric, vote"),
        ("mean", "hinge", r"no combination of outputs of 'hinge' \(known: vote\)"),
        ("geometric", "gaussian", "known: mean, mixture"),
    ],
)
def test_what_is_no_combination(how, loss, match):
    with pytest.raises(ModelspaceError, match=match):
        check_combination(how, loss and losses.resolve(loss))
