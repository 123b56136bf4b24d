"""Calibration and its floor, the temperature, conformal coverage, foreign inputs."""

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import nn

import modelspace as ms
from modelspace import ModelspaceError
from modelspace.data import Split
from modelspace.ensemble import calibration, conformal, separation
from modelspace.ensemble._trust import class_scores, quantile, rank_of

CLASSES = 4


class Fixed(nn.Module):
    """Outputs are the inputs, shifted: an ensemble whose outputs a test chooses."""

    def __init__(self, shift=0.0, size=CLASSES):
        super().__init__()
        self.shift = nn.Parameter(torch.full((size,), shift))

    def forward(self, x):
        return x + self.shift


def fixed(loss, shifts=(0.0, 0.0), size=CLASSES):
    return ms.Ensemble([Fixed(shift, size) for shift in shifts], loss=loss).double()


def drawn(p, draws):
    """Labels drawn from the classes' probabilities."""
    return torch.from_numpy((draws.random(len(p))[:, None] > p.cumsum(1)).sum(1).clip(max=p.shape[1] - 1))


def logits(n, draws, scale=2.0):
    return scale * draws.normal(size=(n, CLASSES))


def test_the_temperature_is_that_of_the_labels():
    """Labels of probabilities softmax(z / 2.5) ask for T = 2.5; the error is of 20,000 samples."""
    draws = np.random.default_rng(0)
    z = logits(20_000, draws)
    split = Split(torch.from_numpy(z), drawn(special.softmax(z / 2.5, 1), draws))
    ensemble = fixed("cross_entropy")
    before = calibration(ensemble, split)
    assert ensemble.calibrate(split) == pytest.approx(2.5, rel=0.05)
    after = calibration(ensemble, split)
    assert after.ece < 0.1 * before.ece
    assert after.ece < 2 * after.ece_floor + 2 * after.ece_error
    x = torch.from_numpy(z[:5])
    assert torch.allclose(ensemble(x), (x / float(ensemble.temperature)).softmax(1))
    signs = fixed("logistic", size=1)
    z = 3 * draws.normal(size=(20_000, 1))
    labels = np.where(draws.random(z.shape) < special.expit(z / 2), 1.0, -1.0)
    assert signs.calibrate(Split(torch.from_numpy(z), torch.from_numpy(labels))) == pytest.approx(2, rel=0.05)


def test_the_temperature_of_a_variance_has_a_closed_form():
    """The Gaussian's likelihood is largest where the mean of z² / T is 1."""
    z = torch.stack([torch.zeros(500), torch.randn(500)], 1).double()
    y = 3 * torch.randn(500).double() * (z[:, 1] / 2).exp()
    ensemble = fixed("gaussian", (0.0,), size=2)
    assert ensemble.calibrate(Split(z, y)) == pytest.approx(float((y**2 / z[:, 1].exp()).mean()), rel=1e-4)


def test_the_floor_is_the_mean_error_of_what_is_calibrated():
    draws = np.random.default_rng(1)
    z = logits(360, draws)
    ensemble, p = fixed("cross_entropy"), special.softmax(z, 1)
    found = [calibration(ensemble, Split(torch.from_numpy(z), drawn(p, draws))) for _ in range(40)]
    errors = np.array([each.ece for each in found])
    assert found[0].ece_floor == pytest.approx(errors.mean(), abs=4 * errors.std() / np.sqrt(40) + 0.002)
    assert sum(found[0].counts) == 360
    # 15 bins that are filled alike at p = .95: the √(2/π) Σ_b √(n_b p (1 − p)) / N of the docstring.
    floor = {n: np.sqrt(2 / np.pi) * np.sqrt(15 * 0.95 * 0.05 / n) for n in (360, 10_000)}
    assert floor == pytest.approx({360: 0.035, 10_000: 0.0067}, abs=6e-4)
    with pytest.raises(ModelspaceError, match="no probabilities of classes: the loss is mse_loss"):
        calibration(fixed("mse"), Split(torch.zeros(3, CLASSES), torch.zeros(3, CLASSES)))


@pytest.mark.parametrize(
    ("n", "alpha", "k"), [(9, 0.1, 9), (10, 0.1, 10), (99, 0.1, 90), (100, 0.1, 91), (8, 0.1, 9)]
)
def test_the_finite_sample_quantile(n, alpha, k):
    assert rank_of(n, alpha) == k
    scores = torch.arange(1.0, n + 1)[torch.randperm(n)]
    assert quantile(scores, alpha) == (np.inf if k > n else k)


def test_scores_of_classes_by_hand():
    p = torch.tensor([[0.5, 0.1, 0.4]], dtype=torch.float64)
    assert torch.allclose(class_scores(p, "lac", 0), 1 - p)
    u = torch.rand(1, generator=torch.Generator().manual_seed(7), dtype=torch.float64).item()
    assert class_scores(p, "aps", 7)[0].tolist() == pytest.approx([0.5 * u, 0.9 + 0.1 * u, 0.5 + 0.4 * u])


def studies(method, loss, make, repeats, n=60, m=300):
    """Coverages on m new samples after calibrating on n, of independent studies."""
    draws, found = np.random.default_rng(2), []
    ensemble = (
        fixed(loss, shifts=(-0.3, 0.3)) if loss == "cross_entropy" else fixed(loss, (-0.3, 0.3), size=1)
    )
    for _ in range(repeats):
        x, y = (torch.from_numpy(part) for part in make(n + m, draws))
        made = conformal(ensemble, Split(x[:n], y[:n]), 0.2, method=method)
        found.append(made.coverage(Split(x[n:], y[n:])))
    return np.array(found), made, Split(x[n:], y[n:])


def classes(n, draws):
    z = logits(n, draws)
    return z, draws.integers(0, CLASSES, n)  # whatever the ensemble is worth


def values(n, draws):
    return draws.normal(size=(n, 1)), draws.standard_cauchy((n, 1))


@pytest.mark.parametrize(
    ("method", "loss", "make"),
    [
        ("lac", "cross_entropy", classes),
        ("aps", "cross_entropy", classes),
        ("residual", "mse", values),
        ("normalised", "mse", values),
    ],
)
def test_coverage_is_the_beta_s(method, loss, make):
    """Over studies the counts covered are a beta-binomial, in mean and distribution."""
    found, made, split = studies(method, loss, make, repeats=120)
    n, m = 60, 300
    k = rank_of(n, 0.2)
    law = stats.betabinom(m, k, n + 1 - k)
    assert found.mean() == pytest.approx(law.mean() / m, abs=4 * law.std() / m / np.sqrt(120))
    u = law.cdf(np.round(found * m)) - np.random.default_rng(3).random(120) * law.pmf(np.round(found * m))
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    low, high = made.band(m)
    assert ((found >= low) & (found <= high)).mean() >= 0.88
    # What is counted is what the sets and intervals say.
    if loss == "cross_entropy":
        inside = made.sets(split.inputs).gather(1, split.labels[:, None])
        with pytest.raises(ModelspaceError, match=r"'(lac|aps)' makes sets of classes, and no intervals"):
            made.intervals(split.inputs)
    else:
        low, high = made.intervals(split.inputs)
        inside = (low <= split.labels) & (split.labels <= high)
    assert float(inside.double().mean()) == pytest.approx(made.coverage(split))


def test_intervals_widen_where_members_disagree():
    class Scaled(nn.Module):
        def __init__(self, scale):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor([scale]))

        def forward(self, x):
            return x * self.scale

    ensemble = ms.Ensemble([Scaled(0.5), Scaled(1.5)], loss="mse")
    x = torch.tensor([[1.0], [2.0], [4.0]])
    made = conformal(ensemble, Split(x.repeat(10, 1), 1.1 * x.repeat(10, 1)), 0.1)
    low, high = made.intervals(x)
    assert made.method == "normalised"
    assert torch.allclose((high - low) / (high - low)[0], x.double())  # the spread is 0.5 x
    assert made.threshold == pytest.approx(0.2, rel=1e-5)
    assert "coverage between" in repr(made)
    assert conformal(ensemble, Split(x, x), 0.1).band() == (1.0, 1.0)


def test_signs_have_sets_of_two():
    z = torch.randn(60, dtype=torch.float64)[:, None]
    labels = torch.ones(60, 1)[:, 0]

    class One(Fixed):
        def forward(self, x):
            return super().forward(x)[:, 0]

    ensemble = ms.Ensemble([One(0.0, 1), One(0.5, 1)], loss="logistic").double()
    made = conformal(ensemble, Split(z, labels), 0.2)
    with torch.no_grad():
        p = ensemble(z)
    assert torch.equal(made.sets(z), torch.stack([p <= made.threshold, 1 - p <= made.threshold], 1))


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"alpha": 1.5}, "between 0 and 1; received 1.5"),
        ({"method": "apps"}, "unknown conformal method 'apps': did you mean 'aps'"),
        ({"method": "residual"}, "not of outputs that are classes: lac or aps"),
    ],
)
def test_what_conformal_refuses(more, match):
    with pytest.raises(ModelspaceError, match=match):
        conformal(fixed("cross_entropy"), Split(torch.zeros(4, CLASSES), torch.zeros(4).long()), **more)


def test_foreign_inputs_are_told_apart():
    """Members agree on what is near 0 and disagree far from it; the area is Mann and Whitney's."""
    members = [nn.Linear(2, 3) for _ in range(4)]
    ensemble = ms.Ensemble(members, loss="cross_entropy")
    near, far = torch.randn(80, 2) * 0.05, torch.randn(60, 2) * 4
    found = separation(ensemble, near, Split(far))
    scores = [ensemble.foreignness(x)["mutual_information"].detach().numpy() for x in (near, far)]
    u = stats.mannwhitneyu(scores[1], scores[0]).statistic / (80 * 60)
    assert found.auroc["mutual_information"] == pytest.approx(u, abs=1e-6)
    assert found.auroc["mutual_information"] > 0.95
    assert sorted(found.index) == ["energy", "entropy", "max_probability", "mutual_information"]
    assert ((found.error >= 0) & (found.error < 0.06)).all()
    chance = separation(ensemble, near, near)
    assert chance.auroc.to_numpy() == pytest.approx(np.full(4, 0.5))


def test_the_error_of_an_area_is_its_spread():
    ensemble, draws = fixed("cross_entropy", size=2), torch.Generator().manual_seed(0)
    found = []
    for _ in range(60):
        near, far = torch.randn(2, 40, generator=draws).double() + torch.tensor([[2.5], [1.5]])
        rows = [
            separation(ensemble, *(torch.stack([z, 0 * z], 1) for z in (near, far))).loc["max_probability"]
        ]
        found.append((rows[0].auroc, rows[0].error))
    areas, errors = np.array(found).T
    assert errors.mean() == pytest.approx(areas.std(), rel=0.25)
