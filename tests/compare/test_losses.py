"""Losses on equal terms: against plain loops, scikit-learn, closed cases; mistakes are said."""

import dataclasses
import math
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score
from torch import nn

import modelspace as ms
from modelspace.compare import compare_losses
from modelspace.compare.calibration import CalibrationTally, confidences
from modelspace.compare.margins import MarginTally, margins_of, right_of
from modelspace.compare.pairs import paired
from modelspace.compare.settings import chosen_settings
from modelspace.errors import ModelspaceError
from modelspace.losses import CATALOGUE, CrossEntropy, Hinge, Logistic

BINS = 10


def three_classes(samples=240):
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(samples, 4, generator=generator)
    noise = torch.randn(samples, 3, generator=generator)
    return ms.data.load((inputs, (inputs @ torch.randn(4, 3, generator=generator) + noise).argmax(1)))


def two_signs(samples=240):
    generator = torch.Generator().manual_seed(4)
    inputs = torch.randn(samples, 3, generator=generator)
    noisy = inputs.sum(1) + torch.randn(samples, generator=generator)
    return ms.data.load((inputs, torch.where(noisy > 0, 1.0, -1.0)))


class Score(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(3, 1)

    def forward(self, x):
        return self.line(x).squeeze(-1)


@pytest.fixture(scope="module")
def classes():
    space = ms.ModelSpace(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)))
    names = ["cross_entropy", "logistic", "hinge"]
    population = space.sample(seeds=4, loss=names, label_noise=[0.0, 0.3], lr=[1e-3, 3e-2])
    data = three_classes()
    run = ms.fit(population, data, epochs=3, batch_size=24)
    return run, data, compare_losses(run, data, bins=BINS)


@pytest.fixture(scope="module")
def signs():
    data = two_signs()
    population = ms.ModelSpace(Score).sample(seeds=5, loss=["logistic", "hinge", "squared_margin"], lr=0.03)
    run = ms.fit(population, data, epochs=4, batch_size=24)
    return run, data, compare_losses(run, data, bins=BINS)


def members_of(run, result, noise):
    """The members of a loss at its chosen setting, found by reading the table again."""
    table = run.table
    rows = table[(table["loss"] == result.loss) & (table.get("label_noise", 0.0) == noise)]
    if rows["lr"].nunique() > 1:
        medians = rows.groupby("lr")["validation_accuracy"].quantile(0.5, interpolation="nearest")
        rows = rows[rows["lr"] == medians.idxmax()]
        assert result.setting == f"lr = {medians.idxmax():g}"
    return list(rows.index)


def plain(run, data, member):
    """One member's outputs on the test split, as a plain module."""
    module = run.population.module(member).eval()
    with torch.no_grad():
        return module(data.test.inputs)


@pytest.mark.parametrize("which", ["classes", "signs"])
def test_accuracies_are_scikit_learn_s_of_plain_modules(which, request):
    run, data, found = request.getfixturevalue(which)
    for result in found.results:
        expected = []
        for member in members_of(run, result, 0.0):
            z = plain(run, data, member)
            predicted = z.argmax(1) if z.ndim == 2 else z.sign()
            expected.append(accuracy_score(data.test.labels, predicted))
        assert result.accuracies == pytest.approx(expected)
        assert result.accuracy.mean == pytest.approx(np.mean(expected))
        assert result.accuracy.sd == pytest.approx(np.std(expected, ddof=1))
        interval = stats.t.interval(
            0.95, len(expected) - 1, np.mean(expected), stats.sem(expected) if np.std(expected) else 1e-300
        )
        assert result.accuracy.interval == pytest.approx(interval)


@pytest.mark.parametrize("which", ["classes", "signs"])
def test_margins_are_those_of_a_plain_loop(which, request):
    run, data, found = request.getfixturevalue(which)
    for result in found.results:
        quantiles, below, total = [], [], 0
        for member in members_of(run, result, 0.0):
            each = []
            for z, y in zip(plain(run, data, member), data.test.labels, strict=True):
                if z.ndim:
                    others = [float(z[c]) for c in range(3) if c != int(y)]
                    each.append(float(z[int(y)]) - max(others))
                else:
                    each.append(float(z * y))
            quantiles.append(np.quantile(each, [0.05, 0.25, 0.5, 0.75, 0.95]))
            below.append(np.mean(np.array(each) < 0))
            total += len(each)
        assert result.margins.quantiles == pytest.approx(np.mean(quantiles, 0), abs=1e-5)
        assert result.margins.below_zero == pytest.approx(np.mean(below))
        assert sum(result.margins.counts) == total
        negative = [
            c for c, e in zip(result.margins.counts, result.margins.edges[1:], strict=True) if e < 1e-9
        ]
        assert sum(negative) == pytest.approx(total * np.mean(below), abs=1)


def test_binary_reliability_is_scikit_learn_s(signs):
    run, data, found = signs
    result = found.results[0]
    assert result.loss == "logistic"
    z = torch.cat([plain(run, data, k) for k in members_of(run, result, 0.0)])
    y = data.test.labels.repeat(len(result.seeds)) > 0
    frequency, confidence = calibration_curve(y.numpy(), z.sigmoid().numpy(), n_bins=BINS)
    known = [(c, f) for c, f in zip(result.calibration.confidence, result.calibration.frequency, strict=True)]
    assert [c for c, _ in known if c is not None] == pytest.approx(confidence, abs=1e-6)
    assert [f for _, f in known if f is not None] == pytest.approx(frequency)
    assert sum(result.calibration.counts) == len(z)


def test_top_label_calibration_error_is_a_plain_loop_s(classes):
    run, data, found = classes
    for result, link in zip(found.results[:2], (lambda z: z.softmax(1), torch.sigmoid), strict=True):
        errors = []
        for member in members_of(run, result, 0.0):
            z = plain(run, data, member).double()
            p = link(z)
            error = 0.0
            for low in range(BINS):
                confident, right = [], []
                for row, scores, y in zip(p, z, data.test.labels, strict=True):
                    c = float(row[scores.argmax()])
                    if low / BINS < c <= (low + 1) / BINS:
                        confident.append(c)
                        right.append(float(scores.argmax() == y))
                error += abs(sum(right) - sum(confident)) / len(z)
            errors.append(error)
        assert result.calibration.ece == pytest.approx(np.mean(errors), abs=1e-6)
        assert result.calibration.ece_sd == pytest.approx(np.std(errors, ddof=1), abs=1e-6)


def test_a_loss_without_probabilities_has_no_calibration_and_says_so(classes):
    found = classes[2]
    assert found.results[2].loss == "hinge"
    assert found.results[2].calibration is None
    assert any("no probabilities: hinge" in note for note in found.notes())


def test_pairs_are_over_the_same_seeds(classes):
    found = classes[2]
    first, second = found.results[:2]
    assert first.seeds == second.seeds == ("0", "1", "2", "3")
    differences = np.subtract(first.accuracies, second.accuracies)
    pair = found.pairs[0]
    assert (pair.a, pair.b, pair.n) == ("cross_entropy", "logistic", 4)
    assert pair.difference == pytest.approx(differences.mean())
    assert pair.error == pytest.approx(stats.sem(differences))
    assert pair.wins == (differences > 0).sum()
    assert pair.ties == (differences == 0).sum()
    assert len(found.pairs) == 3


def test_robustness_is_each_noise_at_its_own_setting(classes):
    run, data, found = classes
    assert found.label_noise == 0.0
    assert [(e.loss, e.label_noise) for e in found.noise] == [
        (loss, noise) for loss in ("cross_entropy", "logistic", "hinge") for noise in (0.0, 0.3)
    ]
    noisy = found.noise[1]
    members = members_of(run, noisy, 0.3)
    expected = [accuracy_score(data.test.labels, plain(run, data, k).argmax(1)) for k in members]
    assert noisy.accuracy.mean == pytest.approx(np.mean(expected))
    assert found.noise[0].accuracy == found.results[0].accuracy


def test_without_data_it_is_the_run_s_own_validation(classes):
    run, _, _ = classes
    found = compare_losses(run)
    assert (found.split, found.samples) == ("validation", None)
    result = found.results[1]
    members = members_of(run, result, 0.0)
    assert result.accuracies == pytest.approx(run.table["validation_accuracy"][members].tolist())
    assert result.margins is result.calibration is None
    assert any("flatter" in note for note in found.notes())


def test_pieces_change_nothing(classes, monkeypatch):
    run, data, found = classes
    # By import: ms.compare is a function.
    outputs, calibration = (import_module(f"modelspace.compare.{n}") for n in ("outputs", "calibration"))
    monkeypatch.setattr(outputs, "MEMBERS", 3)
    monkeypatch.setattr(outputs, "NUMBERS", 60)
    monkeypatch.setattr(calibration, "_PIECE", 7)
    again = compare_losses(run, data, bins=BINS)
    for a, b in zip(found.results, again.results, strict=True):
        assert a.accuracies == b.accuracies
        assert a.margins.quantiles == pytest.approx(b.margins.quantiles, abs=1e-5)
        if a.calibration:
            assert sum(a.calibration.counts) == sum(b.calibration.counts) == 4 * len(data.test)
            assert a.calibration.ece == pytest.approx(b.calibration.ece, abs=1e-6)
            assert a.calibration.ece_error == pytest.approx(b.calibration.ece_error, abs=1e-5)


def test_a_network_without_a_batched_form_is_looped_over():
    class Asking(nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.sum() > -1e9 else super().forward(-x)

    data = three_classes(90)
    run = ms.fit(
        ms.ModelSpace(Asking, in_features=4, out_features=3).sample(2, loss=["hinge"]), data, epochs=1
    )
    found = compare_losses(run, data)
    expected = [accuracy_score(data.test.labels, plain(run, data, k).argmax(1)) for k in range(2)]
    assert found.results[0].accuracies == pytest.approx(expected)


def test_a_network_that_squeezes_meets_no_single_sample():
    class Squeezing(nn.Linear):
        def forward(self, x):
            return super().forward(x).squeeze()

    data = two_signs(645)
    assert len(data.test) == 129  # one more than are evaluated together
    space = ms.ModelSpace(Squeezing, in_features=3, out_features=1)
    run = ms.fit(space.sample(2, loss=["hinge"]), data, epochs=1)
    found = compare_losses(run, data)
    expected = [accuracy_score(data.test.labels, plain(run, data, k).sign()) for k in range(2)]
    assert found.results[0].accuracies == pytest.approx(expected)


def test_perfectly_calibrated_predictions_show_the_floor_and_no_more():
    """Outcomes drawn from the very probabilities: over repetitions the error averages to the floor."""
    generator = torch.Generator().manual_seed(0)
    samples, members = 2000, 40
    p = torch.rand(samples, generator=generator, dtype=torch.float64)
    errors, floors, bootstrap = [], [], []
    for seed in range(members):
        tally = CalibrationTally(10, samples, seed)
        happened = torch.rand(samples, generator=generator, dtype=torch.float64) < p
        tally.add(p[None], happened.double()[None])
        found = tally.result()
        errors.append(found.ece)
        floors.append(found.ece_floor)
        bootstrap.append(found.ece_error)
    assert max(errors) < 0.05
    error_of_mean = np.std(errors, ddof=1) / members**0.5
    assert abs(np.mean(errors) - np.mean(floors)) < 4 * error_of_mean
    # The bootstrap's standard error is what new samples would really show, within a factor.
    assert 0.6 < np.mean(bootstrap) / np.std(errors, ddof=1) < 1.7


def test_a_constant_predictor_is_off_by_its_distance_from_the_base_rate():
    tally = CalibrationTally(15, 1000, 0)
    happened = (torch.arange(1000) % 10 == 0).double()
    tally.add(torch.full((1, 1000), 0.5, dtype=torch.float64), happened[None])
    found = tally.result()
    assert found.ece == pytest.approx(0.4)
    assert found.ece_sd is None
    assert found.ece_error == pytest.approx(math.sqrt(0.1 * 0.9 / 1000), rel=0.2)
    assert found.ece_floor == pytest.approx(math.sqrt(2 / math.pi * 0.25 / 1000))
    assert [c for c in found.counts if c] == [1000]


def test_members_share_the_bootstrap_s_samples():
    """Two equal members are no more information on the samples than one."""
    generator = torch.Generator().manual_seed(1)
    p = torch.rand(300, generator=generator, dtype=torch.float64)
    happened = (torch.rand(300, generator=generator) < 0.5).double()
    one, two = CalibrationTally(10, 300, 0), CalibrationTally(10, 300, 0)
    one.add(p[None], happened[None])
    two.add(p.expand(2, -1), happened.expand(2, -1))
    assert two.result().ece_error == pytest.approx(one.result().ece_error)
    assert two.result().ece_sd == 0


def test_a_member_that_diverged_loses_but_has_no_accuracy():
    pair = paired(("a", "b"), {0: 0.5, 1: 0.6, 2: None, 3: None}, {0: 0.4, 1: None, 2: 0.3, 3: None, 9: 1.0})
    assert (pair.n, pair.finished, pair.wins, pair.losses, pair.ties) == (4, 1, 2, 1, 1)
    assert pair.difference == pytest.approx(0.1)
    assert pair.error is None


def test_the_interval_of_winning_always_is_the_exact_one():
    """29 of 29, the case of which the bootstrap makes (1, 1): Clopper and Pearson's lower end is (α/2)^(1/n)."""
    pair = paired(("a", "b"), dict.fromkeys(range(29), 1.0), dict.fromkeys(range(29), 0.5))
    assert pair.probability == 1
    assert pair.interval == pytest.approx((0.025 ** (1 / 29), 1.0))
    none = paired(("a", "b"), {0: 0.5}, {1: 0.5})
    assert none.probability is none.interval is none.more_pairs is None


@given(st.lists(st.floats(0, 1), max_size=8), st.lists(st.floats(0, 1), max_size=8))
@settings(max_examples=50, deadline=None)
def test_exchanging_the_two_exchanges_wins_and_losses(first, second):
    a, b = dict(enumerate(first)), dict(enumerate(second))
    there, back = paired(("a", "b"), a, b), paired(("b", "a"), b, a)
    assert (there.wins, there.losses, there.ties) == (back.losses, back.wins, back.ties)
    assert there.wins + there.losses + there.ties == there.n == min(len(a), len(b))
    if there.probability is not None:
        assert there.probability == pytest.approx(1 - back.probability)
        assert there.interval == pytest.approx((1 - back.interval[1], 1 - back.interval[0]), abs=1e-9)


def test_margins_of_classes_signs_and_pixels():
    z = torch.tensor([[[2.0, 5.0, 1.0], [0.0, 0.0, -1.0]]])
    assert margins_of(z, torch.tensor([0, 1])).tolist() == [[-3.0, 0.0]]
    assert right_of(z, torch.tensor([0, 0])).tolist() == [[False, True]]
    signs = torch.tensor([[0.5, -2.0, 0.0]])
    assert margins_of(signs, torch.tensor([1, 1, -1])).tolist() == [[0.5, -2.0, 0.0]]
    assert right_of(signs, torch.tensor([1, 1, -1])).tolist() == [[True, False, False]]
    pixels = torch.randn(2, 3, 4, 5, 6)
    labels = torch.randint(0, 4, (3, 5, 6))
    flat = margins_of(pixels.movedim(2, -1).reshape(2, -1, 4), labels.flatten())
    assert torch.equal(margins_of(pixels, labels), flat)
    p, happened = confidences(CrossEntropy(), pixels, labels)
    assert torch.allclose(p, pixels.double().softmax(2).amax(2).flatten(1))
    assert torch.equal(happened.bool(), flat > 0)
    with pytest.raises(ModelspaceError, match=r"compared as classifiers.*labels of shape \[3\] \(float32\)"):
        margins_of(torch.zeros(1, 3), torch.tensor([0.0, 1.0, 1.0]))


def test_confidence_is_through_the_loss_s_own_link():
    z, y = torch.tensor([[0.5, -3.0]]), torch.tensor([1, -1])
    assert confidences(Logistic(), z, y)[0].tolist() == [
        pytest.approx([1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(3))])
    ]
    assert confidences(CATALOGUE["squared_margin"], z, y)[0].tolist() == [[0.75, 0.0]]
    assert confidences(CATALOGUE["squared_margin"], z, y)[1].tolist() == [[1.0, 0.0]]
    assert confidences(Hinge(), z, y) is None


def test_equal_margins_have_a_histogram_too():
    tally = MarginTally()
    tally.add(torch.zeros(2, 5, dtype=torch.float64))
    assert sum(tally.result().counts) == 10
    assert MarginTally().result() is None


def table(rows):
    import pandas as pd

    return pd.DataFrame(rows, columns=pd.Index(["seed", "loss", "lr", "gamma"]))


def test_a_setting_is_chosen_by_its_median_and_a_diverged_member_is_the_worst():
    members = table([(s, "hinge", lr, 1.0) for lr in (0.1, 1.0) for s in range(3)])
    accuracy = np.array([0.5, 0.6, 0.7, 0.9, 0.9, 0.9])
    steady = np.array(["finished"] * 6)
    (chosen,) = chosen_settings(members, steady, accuracy)
    assert (dict(chosen.values), chosen.members, chosen.among) == ({"lr": 1.0}, (3, 4, 5), 2)
    wild = np.array(["finished"] * 4 + ["diverged"] * 2)
    (chosen,) = chosen_settings(members, wild, accuracy)
    assert chosen.setting == "lr = 0.1"


def test_a_parameter_of_another_loss_is_no_setting():
    members = table([(s, loss, 0.1, g) for loss in ("hinge", "focal") for g in (1.0, 2.0) for s in range(2)])
    accuracy = np.array([0.5, 0.5, 0.5, 0.5, 0.1, 0.1, 0.2, 0.2])
    hinge, focal = chosen_settings(members, np.array(["finished"] * 8), accuracy)
    assert (hinge.among, hinge.members, hinge.setting) == (1, (0, 1), "lr = 0.1")
    assert (focal.among, focal.members) == (2, (6, 7))
    assert focal.loss.gamma == 2.0


def test_members_not_trained_to_the_end_are_left_out():
    members = table([(s, "hinge", 0.1, 1.0) for s in range(3)])
    status = np.array(["finished", "unfinished", "stopped early"])
    (chosen,) = chosen_settings(members, status, None)
    assert chosen.seeds == ((0,), (2,))
    with pytest.raises(ModelspaceError, match="no member of this run was trained to the end"):
        chosen_settings(members, np.array(["unfinished"] * 3), None)


def test_diverged_members_are_counted_and_have_no_accuracy():
    data = three_classes(90)
    population = ms.ModelSpace(nn.Linear, in_features=4, out_features=3).sample(
        2, loss=["cross_entropy", "squared_margin"], lr=[1e3]
    )
    run = ms.fit(population, data, optimizer="sgd", epochs=6, batch_size=8)
    status = dict(zip(run.table["loss"], run.status, strict=True))
    assert status["squared_margin"] == "diverged"
    found = compare_losses(run, data)
    lost = found.results[1]
    assert (lost.diverged, lost.accuracies, lost.accuracy.n, lost.margins) == (2, (None, None), 0, None)
    assert found.pairs[0].wins == 2
    assert found.pairs[0].difference is None
    assert "–" in repr(found)
    assert math.isnan(found.table.loc["squared_margin", "accuracy"])


def test_with_signs_a_setting_is_chosen_by_an_accuracy_measured_now():
    data = two_signs()
    space = ms.ModelSpace(Score)
    run = ms.fit(space.sample(seeds=3, loss=["logistic", "hinge"], lr=[1e-6, 0.1]), data, epochs=3)
    assert "validation_accuracy" not in run.table
    assert {each.setting for each in compare_losses(run, data).results} == {"lr = 0.1"}
    with pytest.raises(ModelspaceError, match="2 settings of lr, and the run has no validation accuracy"):
        compare_losses(run)


def test_mistakes_are_said(classes):
    run, data, _ = classes
    space = ms.ModelSpace(nn.Linear, in_features=4, out_features=3)
    alone = ms.fit(space.sample(2, lr=0.1), data, epochs=1)
    with pytest.raises(ModelspaceError, match=r"where they are a column.*has the columns seed, lr"):
        compare_losses(alone, data)
    few = ms.fit(space.sample(3, loss=["hinge"]), data, epochs=1, keep=1)
    with pytest.raises(ModelspaceError, match="those of 2 of 3 members were not kept: fit with keep='all'"):
        compare_losses(few, data)
    assert compare_losses(few).results[0].accuracy.n == 3
    with pytest.raises(ModelspaceError, match="unknown split 'tests': did you mean 'test'"):
        compare_losses(run, data, split="tests")
    with pytest.raises(ModelspaceError, match="no accuracy on the test split: give the data"):
        compare_losses(run, split="test")
    with pytest.raises(ModelspaceError, match="at least 2 bins; received bins=1"):
        compare_losses(run, data, bins=1)
    blind = ms.data.load((data.train.inputs, data.train.labels), splits=(1, 0, 0))
    with pytest.raises(ModelspaceError, match=r"the test split of .* is empty"):
        compare_losses(run, blind)
    unseen = ms.fit(space.sample(2, loss=["hinge"], lr=[0.1, 0.2]), blind, epochs=1)
    with pytest.raises(ModelspaceError, match="2 settings of lr, and the run has no validation accuracy"):
        compare_losses(unseen, data)


def test_a_regression_is_no_comparison_of_classifiers():
    data = ms.data.load((torch.randn(60, 4), torch.randn(60, 1)))
    space = ms.ModelSpace(nn.Linear, in_features=4, out_features=1)
    run = ms.fit(space.sample(2, loss=["huber", "absolute"]), data, epochs=1)
    with pytest.raises(ModelspaceError, match="losses are compared as classifiers"):
        compare_losses(run, data)


def test_it_reads_as_a_table(classes):
    found = classes[2]
    text = repr(found)
    assert text.startswith("3 losses on ")
    assert "over the same seeds, A − B" in text
    assert f"{100 * found.results[0].accuracy.mean:.2f} ± {100 * found.results[0].accuracy.sd:.2f} %" in text
    frame = found.table
    assert list(frame.index) == ["cross_entropy", "logistic", "hinge"]
    assert frame.loc["hinge", "accuracy"] == found.results[2].accuracy.mean
    assert math.isnan(frame.loc["hinge", "ece"])


def test_html_is_escaped(classes):
    hostile = dataclasses.replace(classes[2], data="<script>alert(1)</script>")
    hostile = dataclasses.replace(
        hostile, results=(dataclasses.replace(hostile.results[0], setting="<b>"), *hostile.results[1:])
    )
    text = hostile._repr_html_()
    assert "<script" not in text
    assert "<b>" not in text
    assert "&lt;script&gt;" in text
