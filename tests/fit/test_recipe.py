import pytest
from support import plans
from support.cases import named

import modelspace as ms
from modelspace.errors import ModelspaceError

CASE = named("MLP tanh")


def fit(population=None, **settings):
    population = population or CASE.space().sample(seeds=2)
    return plans.fit(population, CASE.data(), epochs=1, lowering="loop", **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "adm"}, "unknown optimizer 'adm': did you mean 'adam'"),
        ({"loss": "cros_entropy"}, "unknown loss 'cros_entropy': did you mean 'cross_entropy'"),
        ({"metrics": ["acuracy"]}, "unknown metric 'acuracy': did you mean 'accuracy'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"batch_size": 0}, "batch_size is at least 1; received 0"),
        ({"clip_norm": -1.0}, r"clip_norm must be a positive number or inf; received -1\.0"),
        ({"early_stopping": 0}, "patience ≥ 1"),
        (
            {"early_stopping": ms.EarlyStopping(monitor="validation_acuracy")},
            "unknown score to monitor 'validation_acuracy': did you mean 'validation_accuracy'",
        ),
        ({"optimizer": ms.SGD(lr=-1.0)}, r"learning rate lr must be a positive number; received -1\.0"),
    ],
    ids=str,
)
def test_bad_settings_are_refused_before_anything_is_computed(settings, message):
    with pytest.raises(ModelspaceError, match=message):
        fit(**settings)


def test_epochs_are_at_least_one():
    with pytest.raises(ModelspaceError, match="epochs is at least 1; received 0"):
        plans.fit(CASE.space().sample(seeds=1), CASE.data(), epochs=0)


def test_bad_columns_are_listed_together_with_their_members():
    population = CASE.space().sample(seeds=3).with_columns(lr=[0.1, -0.1, 0.1], weight_decay=[0, 0, -1])
    with pytest.raises(ModelspaceError, match=r"received -0\.1 \(member 1\).*received -1\.0 \(member 2\)"):
        fit(population)


def test_a_column_that_nothing_reads_is_refused():
    with pytest.raises(ModelspaceError, match=r"unknown column .* 'lrr': did you mean 'lr'"):
        fit(CASE.space().sample(seeds=2, lrr=[0.1]))
    with pytest.raises(ModelspaceError, match="column betas is no hyper-parameter of SGD"):
        fit(CASE.space().sample(seeds=2, betas=[(0.9, 0.99)]), optimizer="sgd")
    with pytest.raises(
        ModelspaceError, match=r"column epochs: epochs is one for the whole fit.*fit\(…, epochs=…\)"
    ):
        fit(CASE.space().sample(seeds=2, epochs=[1, 2]))
    with pytest.raises(ModelspaceError, match="one loss under two names, mse and mse_loss"):
        fit(CASE.space().sample(seeds=2, loss=["mse", "mse_loss"]))
    with pytest.raises(ModelspaceError, match="column 'lr' holds 'fast'"):
        fit(CASE.space().sample(seeds=2, lr=["fast"]))


def test_labels_must_fit_loss_and_outputs():
    data = named("DummyNet").data()
    wrong = ms.data.Data("x", *(ms.data.Split(s.inputs[:, 0, 0, :6], s.labels) for s in data.splits.values()))
    with pytest.raises(ModelspaceError, match="label"):
        plans.fit(CASE.space().sample(seeds=1), wrong, epochs=1)


def test_inputs_must_fit_and_the_layer_is_named():
    with pytest.raises(ModelspaceError, match=r"layer 0 \(Linear\) received"):
        plans.fit(CASE.space().sample(seeds=1), named("DummyNet").data(), epochs=1)


def test_the_settings_are_recorded():
    run = fit(optimizer="sgd", clip_norm=1.0, early_stopping=3)
    assert run.settings["loss"] == "cross_entropy"
    assert run.settings["optimizer"].startswith("SGD(")
    assert run.settings["clip_norm"] == 1.0
    assert run.settings["metrics"] == ["accuracy"]
    assert "patience=3" in run.settings["early_stopping"]


@pytest.mark.parametrize("settings", [{"patience": 0}, {"min_delta": -0.1}])
def test_early_stopping_out_of_range(settings):
    with pytest.raises(ModelspaceError, match="patience ≥ 1 and min_delta ≥ 0"):
        ms.EarlyStopping(**settings)
