"""The record: its numbers against numpy's, and its JSON against itself."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

import modelspace as ms
from modelspace.errors import ModelspaceError
from modelspace.plain import plain
from modelspace.report import ReportRecord, record_of_exploration, record_of_run
from modelspace.report._extract import seed_ranges
from modelspace.report._page import page
from modelspace.report._words import choice_remarks, mean_error, sampling_error, verdict

PROMISED = {  # by --json
    *("run", "members", "diverged", "plan", "seconds", "member_steps_per_second", "dimension", "chosen"),
    *("test_accuracy", "test_loss", "comparison", "interrupted", "findings"),
}


def network():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def classes():
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(120, 4, generator=generator)
    labels = (inputs @ torch.randn(4, 3, generator=generator)).argmax(1)
    return ms.data.load((inputs, labels))


@pytest.fixture(scope="module")
def exploration():
    space = ms.ModelSpace(network(), input_shape=(4,))
    return ms.explore(
        space,
        classes(),
        seeds=5,
        columns={"lr": [1e-3, 1e-2, 1e-1]},
        fresh_seeds=7,
        epochs=3,
        batch_size=16,
        ground=False,
    )


@pytest.fixture(scope="module")
def record(exploration):
    return record_of_exploration(exploration, command="modelspace explore x.py:Net")


@pytest.fixture(scope="module")
def diverging():
    """A run of which some members diverge: a quadratic with a learning rate far beyond 2/λ."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 3, generator=generator)
    data = ms.data.load((inputs, inputs.sum(1, keepdim=True)))
    space = ms.ModelSpace(nn.Linear, in_features=3, out_features=1, input_shape=(3,))
    population = space.sample(seeds=4, lr=[1e-2, 1e6])
    return ms.fit(population, data, loss="mse", optimizer="sgd", epochs=6, batch_size=6)


def test_what_the_doctor_found_is_in_the_record_and_escaped_on_the_page(exploration, record):
    assert record.diagnosis == exploration.diagnosis.findings
    hostile = ms.Finding(
        "a-rule", "error", "<b>", "<script>alert(1)</script>", "x = '</pre>'", "it is <wrong>"
    )
    changed = dataclasses.replace(record, diagnosis=(hostile,))
    assert ReportRecord.from_json(changed.to_json()) == changed
    source = page(changed)
    assert "a-rule" in source
    assert "<script>alert(1)" not in source
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in source
    with pytest.raises(ModelspaceError, match="severity is 'fatal'; expected 'error', 'warning', 'info'"):
        ReportRecord.from_plain({**plain(changed), "diagnosis": [{**plain(hostile), "severity": "fatal"}]})


def test_the_summary_is_numpy_s(exploration, record):
    test = exploration.test["accuracy"].to_numpy()
    summary = record.scores.summaries[0]
    assert summary.metric == record.metric == "accuracy"
    assert summary.n == 7
    assert summary.mean == pytest.approx(np.mean(test))
    assert summary.sd == pytest.approx(np.std(test, ddof=1))
    found = (summary.min, summary.q1, summary.median, summary.q3, summary.max)
    assert found == pytest.approx(tuple(np.percentile(test, [0, 25, 50, 75, 100])))
    assert [m.scores[0] for m in record.scores.members] == test.tolist()
    assert [m.seed for m in record.scores.members] == exploration.test["seed"].tolist()


def test_the_summary_is_the_exploration_s(exploration, record):
    headline = exploration.distribution
    for name in ("n", "mean", "sd", "min", "q1", "median", "q3", "max"):
        assert getattr(record.scores.summaries[0], name) == pytest.approx(getattr(headline, name))


def test_the_response_is_the_sweep_s(exploration, record):
    table = exploration.sweep.table
    for setting, lr in zip(record.response, [1e-3, 1e-2, 1e-1], strict=True):
        scores = table.loc[table["lr"] == lr, "validation_accuracy"]
        assert setting.values[0].number == lr
        assert (setting.seeds, setting.diverged) == (5, 0)
        assert (setting.least, setting.most) == (scores.min(), scores.max())
        assert [setting.q1, setting.median, setting.q3] == sorted(scores)[1:4]
    medians = [s.median for s in record.response]
    assert record.best == int(np.argmax(medians))
    assert record.response[record.best].values[0].number == exploration.chosen["lr"]


def test_bands_are_percentiles_over_members(exploration, record):
    fresh = {band.name: band for band in record.fits[1].bands}
    assert set(fresh) == {"train_loss", "validation_loss", "validation_accuracy"}
    for name, band in fresh.items():
        found = np.array([band.q05, band.q25, band.q50, band.q75, band.q95])
        expected = np.percentile(exploration.fresh.history[name], [5, 25, 50, 75, 95], axis=0)
        np.testing.assert_allclose(found, expected)
        assert band.members == (7, 7, 7)


def test_the_sweep_s_bands_are_of_the_chosen_setting(exploration, record):
    rows = (exploration.sweep.population.table["lr"] == exploration.chosen["lr"]).to_numpy()
    median = np.median(exploration.sweep.history["train_loss"][rows], axis=0)
    band = record.fits[0].bands[0]
    np.testing.assert_allclose(band.q50, median)
    assert band.members == (5, 5, 5)


def test_the_comparison_is_carried_over(exploration, record):
    comparison = exploration.comparison
    assert record.pair.path_losses == pytest.approx(comparison.path_losses)
    assert record.pair.barrier == comparison.barrier
    assert [b.name for b in record.pair.blocks] == [b.name for b in comparison.blocks]
    a, b = exploration.fresh.population.points[list(exploration.pair)].double().numpy()
    assert record.pair.distance.l2 == pytest.approx(np.linalg.norm(a - b))


def test_flops_are_of_one_sample_where_batchnorm_needs_two(record):
    assert record.space.forward_flops == 2 * (4 * 8 + 8 * 3)
    assert sum(layer.flops for layer in record.space.layers) == record.space.forward_flops
    assert record.space.peak_batch == 2
    assert record.space.cost_problem is None


def test_diverged_members_are_counted_and_named(diverging):
    record = record_of_run(diverging)
    steady, wild = record.response
    assert (steady.diverged, wild.diverged) == (0, 4)
    assert (wild.median, wild.least) == (math.inf, None)
    (fit,) = record.fits
    assert [(m.seed, m.values[0].number) for m in fit.diverged] == [(s, 1e6) for s in range(4)]
    assert dict(fit.statuses) == {"finished": 4, "diverged": 4}
    assert record.best == 0
    assert record.scores.split == "validation"
    expected = diverging.table["validation_loss"][:4].mean()
    assert record.scores.summaries[0].mean == pytest.approx(expected)


def test_a_run_that_wholly_diverged_has_no_scores(diverging):
    space = diverging.population.space
    data = ms.data.load((torch.randn(60, 3), torch.randn(60, 1)))
    run = ms.fit(space.sample(seeds=2, lr=[1e30]), data, loss="mse", optimizer="sgd", epochs=2, batch_size=6)
    record = record_of_run(run)
    assert record.best is None
    assert record.scores is None


@pytest.mark.parametrize("which", ["exploration", "run"])
def test_json_round_trip_is_exact(which, record, diverging):
    record = record if which == "exploration" else record_of_run(diverging)
    assert ReportRecord.from_json(record.to_json()) == record


def test_json_is_strict_and_keeps_what_is_not_finite(diverging):
    record = record_of_run(diverging)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    plain = json.loads(record.to_json(), parse_constant=refuse)
    assert plain["response"][1]["median"] == "inf"
    assert plain["response"][1]["least"] is None


def test_a_summary_may_hold_the_record_s_keys_beside_its_own(record):
    values = plain(record)
    assert not PROMISED & set(values)
    assert ReportRecord.from_plain(json.loads(json.dumps({**values, "members": 3}))) == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.pop("space"), r"record has no space"),
        (lambda r: r.update(format=99), r"no report record of format 2: its format is 99"),
        (
            lambda r: r["space"].update(dimension="many"),
            r"record\.space\.dimension is 'many'; expected int",
        ),
        (lambda r: r["response"][0].update(q1="NaN"), r"record\.response\[0\]\.q1 is 'NaN'; expected float"),
        (lambda r: r["response"][0].update(seeds=True), r"seeds is True; expected int"),
        (lambda r: r["fits"].append(3), r"record\.fits\[2\] is 3; expected FitRecord"),
    ],
)
def test_what_is_no_record_is_refused_by_place(change, message, record):
    plain = json.loads(record.to_json())
    change(plain)
    with pytest.raises(ModelspaceError, match=message):
        ReportRecord.from_plain(plain)


def test_what_is_no_json_is_refused():
    with pytest.raises(ModelspaceError, match="is JSON, but this is not"):
        ReportRecord.from_json("{")
    with pytest.raises(ModelspaceError, match="its format is 'list'"):
        ReportRecord.from_json("[]")


def test_seeds_as_ranges():
    assert seed_ranges([3, 1, 2, 9, 11, 12]) == "1–3, 9, 11–12"
    assert seed_ranges([]) == ""


def test_standard_errors(record):
    summary = record.scores.summaries[0]
    p, n = summary.mean, record.dataset.test
    assert sampling_error(record) == pytest.approx(math.sqrt(p * (1 - p) / n))
    assert mean_error(summary) == pytest.approx(summary.sd / math.sqrt(7))


def test_a_choice_at_the_edge_is_said(record):
    edge = dataclasses.replace(record, best=2)
    assert any("lr is the largest that was tried" in remark for remark in choice_remarks(edge))
    inside = dataclasses.replace(record, best=1)
    assert not any("tried" in remark for remark in choice_remarks(inside))


def test_without_validation_there_are_curves_and_no_scores():
    space = ms.ModelSpace(nn.Linear, in_features=4, out_features=3, input_shape=(4,))
    data = ms.data.load((torch.randn(40, 4), torch.arange(40) % 3), splits=(1, 0, 0))
    record = record_of_run(ms.fit(space.sample(seeds=2, lr=[0.1, 0.01]), data, epochs=2))
    assert record.scores is None
    assert [band.name for band in record.fits[0].bands] == ["train_loss"]
    assert "without validation" in verdict(record)[0]


def test_where_members_come_from_is_no_setting():
    data = ms.data.load((torch.randn(40, 4), torch.arange(40) % 3))
    run = ms.fit(ms.population_of([nn.Linear(4, 3), nn.Linear(4, 3)]), data, epochs=1)
    record = record_of_run(run)
    assert record.columns == ()
    assert [m.seed for m in record.scores.members] == [None, None]
