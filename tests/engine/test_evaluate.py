import sys

import numpy as np
import pytest
import torch
from support.cases import Dropouts, DummyNet, Residual, mlp, named
from support.plans import fit
from torch import nn

import modelspace as ms
from modelspace.data import Data, Split
from modelspace.engine import Function, Plan, Scoring, members_scores, probe
from modelspace.errors import ModelspaceError


def plain(population, split, score):
    with torch.no_grad():
        return [float(score(m.eval()(split.inputs), split.labels)) for m in population.modules()]


def accuracy(outputs, labels):
    return (outputs.argmax(1) == labels).double().mean()


class Aliased(nn.Module):
    """Uses its weight by another way than its name: under ``vmap`` that is not the member's."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 3)
        self.kept = [self.first.weight]

    def forward(self, x):
        return nn.functional.linear(x, self.kept[0])


@pytest.mark.parametrize("make", [mlp, Residual, Dropouts, Aliased], ids=lambda m: m.__name__)
def test_scores_are_the_plain_modules(make):
    shape = (6,) if make in (mlp, Aliased) else (2, 4, 4)
    part = Split(torch.randn(300, *shape), torch.randint(3, (300,)))
    population = ms.ModelSpace(make).sample(seeds=5, lr=[0.1])
    table = ms.evaluate(population, Data("x", part, part, part), ["loss", "accuracy", accuracy])
    assert np.allclose(table["loss"], plain(population, part, nn.functional.cross_entropy), rtol=1e-5)
    assert np.allclose(table["accuracy"], plain(population, part, accuracy))
    assert table["seed"].tolist() == [0, 1, 2, 3, 4]
    assert table["lr"].tolist() == [0.1] * 5


def test_piecewise_is_whole(monkeypatch):
    case = named("MLP tanh")
    population = case.space(torch.float64).sample(seeds=40)
    inputs, labels = torch.randn(301, 6, dtype=torch.float64), torch.randint(3, (301,))
    scores = {"loss": ms.losses.resolve("cross_entropy")}
    found = members_scores(population, inputs, labels, scores)
    monkeypatch.setattr(sys.modules[Scoring.__module__], "SCORED_AT_ONCE", 10**6)
    assert torch.allclose(members_scores(population, inputs, labels, scores), found, rtol=1e-12)
    parts = [members_scores(population[[k]], inputs, labels, scores) for k in range(0, 40, 13)]
    assert torch.allclose(torch.cat(parts), found[::13], rtol=1e-12)


def test_evaluating_changes_nothing():
    population = ms.ModelSpace(Residual).sample(seeds=2)
    before = population.copy()
    part = Split(torch.randn(8, 2, 4, 4), torch.randint(3, (8,)))
    ms.evaluate(population, Data("x", part, part, part))
    assert torch.equal(population.points, before.points)
    assert all(torch.equal(v, before.buffers[n]) for n, v in population.buffers.items())


def test_what_does_not_fit_is_said():
    case = named("MLP tanh")
    population, data = case.space().sample(seeds=2), case.data()
    with pytest.raises(ModelspaceError, match="unknown split 'tset': did you mean 'test'"):
        ms.evaluate(population, data, split="tset")
    with pytest.raises(ModelspaceError, match="unknown metric 'acuracy': did you mean 'accuracy'"):
        ms.evaluate(population, data, ["acuracy"])
    empty = Data("x", data.train, data.validation, Split(data.test.inputs[:0], data.test.labels[:0]))
    with pytest.raises(ModelspaceError, match="the test split of x is empty"):
        ms.evaluate(population, empty)
    with pytest.raises(ModelspaceError, match=r"layer 0 \(Linear\) received \[2, 2, 4, 4\]"):
        ms.evaluate(population, named("residual BatchNorm").data())


def test_probe_wants_tensors():
    class Silent(nn.Linear):
        def forward(self, x):
            return {"text": "none", "more": [None]}

    with pytest.raises(ModelspaceError, match="Silent returned a dict: a tensor is expected"):
        probe(Silent(2, 2), torch.zeros(3, 2))
    outputs, (hidden, cell) = probe(nn.LSTM(2, 2), torch.zeros(3, 1, 2))
    assert outputs.shape == (3, 1, 2)
    assert hidden.shape == cell.shape == (1, 1, 2)
    assert probe(DummyNet(), torch.zeros(2, 3, 7, 7)).shape == (2, 10)


G = torch.Generator().manual_seed(3)
X = torch.randn(700, 5, generator=G, dtype=torch.float64)
Y = torch.randint(0, 3, (700,), generator=G)
WEIGHT = torch.tensor([1.0, 5.0, 30.0], dtype=torch.float64)


def macro_f1(outputs, labels):
    """A Python float, by way of NumPy."""
    found, y = outputs.argmax(1).numpy(), labels.numpy()
    each = [2 * ((found == c) & (y == c)).sum() / ((found == c).sum() + (y == c).sum()) for c in range(3)]
    return float(np.mean(each))


def correlation(outputs, labels):
    return torch.corrcoef(torch.stack([outputs[:, 0], labels.to(outputs.dtype)]))[0, 1]


def median(outputs, labels):
    return outputs.gather(1, labels[:, None]).median()


def in_place(outputs, labels):
    labels += 1
    return outputs.exp_().sum() / labels.sum()


def worst(outputs, labels):
    return nn.functional.cross_entropy(outputs, labels, reduction="none").topk(500).values.mean()


SCORES = {
    "weight": nn.CrossEntropyLoss(weight=WEIGHT),
    "ignore_index": nn.CrossEntropyLoss(ignore_index=2),
    "sum": nn.CrossEntropyLoss(reduction="sum"),
    "function": lambda z, y: nn.functional.cross_entropy(z, y, weight=WEIGHT),
    **{f.__name__: f for f in (macro_f1, correlation, median, in_place, worst)},
}


def triple(x=X, y=Y):
    part = Split(x, y)
    return Data("x", part, part, part)


def three():
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))


def expected(population, score, x=X, y=Y):
    with torch.no_grad():
        return [float(score(m.eval()(x.clone()), y.clone())) for m in population.modules()]


@pytest.mark.parametrize("held", [2**26, 1])
@pytest.mark.parametrize("name", SCORES)
def test_a_score_is_one_of_all_samples(name, held, monkeypatch):
    """As a loss and as a metric, whatever the pieces of samples and of members."""
    monkeypatch.setattr(sys.modules[Scoring.__module__], "HELD_AT_ONCE", held)
    population = ms.ModelSpace(three, dtype=torch.float64, input_shape=(5,)).sample(3)
    score, before = SCORES[name], Y.clone()
    want = expected(population, score)
    metric = ms.metrics.Metric("own", score, higher_is_better=False)
    found = ms.evaluate(population, triple(), [metric, "accuracy", in_place], loss=score)
    assert np.allclose(found["own"], want, rtol=1e-12, atol=0)
    assert np.allclose(found["in_place"], expected(population, in_place), rtol=1e-12, atol=0)
    counted = getattr(score, "ignore_index", -100) != Y
    own = expected(population, accuracy, X[counted], Y[counted])
    assert np.allclose(found["accuracy"], own, rtol=1e-12, atol=0)
    assert torch.equal(Y, before)
    if name not in ("macro_f1", "in_place"):
        assert np.allclose(
            ms.evaluate(population, triple(), ["loss"], loss=score)["loss"], want, rtol=1e-12, atol=0
        )


@pytest.mark.parametrize(
    "settings", [{"lowering": "vmap", "shard": 2}, {"lowering": "loop"}, {"compile": True}]
)
def test_validation_scores_are_of_all_samples(settings):
    """In ``fit``, every epoch; what stops a member early is the same number."""
    population = ms.ModelSpace(three, dtype=torch.float64, input_shape=(5,)).sample(3, lr=[0.1])
    own = [ms.metrics.Metric(n, SCORES[n], True) for n in ("macro_f1", "median")]
    given = {"loss": SCORES["weight"], "metrics": [*own, "accuracy"], "batch_size": 350, "optimizer": "sgd"}
    run = fit(population, triple(), epochs=2, **given, **settings)
    for name, score in (("loss", SCORES["weight"]), ("macro_f1", macro_f1), ("median", median)):
        want = expected(run.population, score)
        assert np.allclose(run.history[f"validation_{name}"][:, -1], want, rtol=1e-9, atol=0), name
    first = fit(population, triple(), epochs=1, **given, **settings)
    assert np.allclose(
        run.history["validation_macro_f1"][:, 0], expected(first.population, macro_f1), rtol=1e-9
    )


@pytest.mark.slow
def test_compiled_scoring_is_of_all_samples():
    population = ms.ModelSpace(three, dtype=torch.float64, input_shape=(5,)).sample(3)
    scores = {
        "loss": ms.losses.resolve(SCORES["weight"]),
        "accuracy": ms.metrics.resolve("accuracy"),
        "f1": ms.metrics.resolve(macro_f1),
    }
    plan = Plan("vmap", 3, True, 1, "compiled")
    scoring = Scoring(Function(population.space), scores, X, Y, plan, 1000, population[[0]])
    found = scoring(population.points, population.buffers, {})
    assert scoring._compile
    for k, score in enumerate((SCORES["weight"], accuracy, macro_f1)):
        assert np.allclose(found[:, k], expected(population, score), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (
            lambda: nn.Sequential(
                nn.Linear(5, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3)
            ),
            (5,),
        ),
        (lambda: nn.Sequential(nn.BatchNorm1d(5, track_running_stats=False), Zeroed(5, 3)), (5,)),
    ],
    ids=["statistics of the batch", "that begin unseen"],
)
@pytest.mark.parametrize("loss", ["cross_entropy", SCORES["weight"]], ids=["mean", "weights"])
def test_samples_that_see_each_other_are_one_piece(make, shape, loss):
    population = ms.ModelSpace(make, dtype=torch.float64, input_shape=shape).sample(3)
    population.points = population.points + 0.1
    objective = nn.CrossEntropyLoss() if loss == "cross_entropy" else loss
    found = ms.evaluate(population, triple(), ["loss"], loss=loss)["loss"]
    assert np.allclose(found, expected(population, objective), rtol=1e-9, atol=0)
    run = ms.fit(population.with_columns(lr=[0.1] * 3), triple(), loss=loss, epochs=1, batch_size=350)
    assert np.allclose(
        run.history["validation_loss"][:, -1], expected(run.population, objective), rtol=1e-9, atol=0
    )


class Zeroed(nn.Linear):
    def reset_parameters(self):
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


def test_all_left_out_is_nan_as_in_pytorch():
    population = ms.ModelSpace(three, dtype=torch.float64, input_shape=(5,)).sample(2)
    loss = nn.CrossEntropyLoss(ignore_index=2)
    assert np.isnan(
        ms.evaluate(population, triple(y=torch.full((700,), 2)), ["loss"], loss=loss)["loss"]
    ).all()
    some = torch.cat([torch.full((600,), 2), Y[600:]])  # whole pieces of nothing
    want = expected(population, loss, y=some)
    assert np.allclose(
        ms.evaluate(population, triple(y=some), ["loss"], loss=loss)["loss"], want, rtol=1e-12, atol=0
    )


def test_a_score_that_fails_is_said_before_training():
    def few(outputs, labels):
        raise ValueError("only one class present")

    population = ms.ModelSpace(three, dtype=torch.float64, input_shape=(5,)).sample(2)
    message = (
        r"'few' failed on the outputs of one member for all 700 samples, .*\[700, 3\].*only one class present"
    )
    for call in (ms.evaluate, ms.fit):
        with pytest.raises(ModelspaceError, match=message):
            call(population, triple(), metrics=[few])
    with pytest.raises(ModelspaceError, match="metric 'pair' returned tuple: it must return one real number"):
        ms.fit(population, triple(), metrics=[ms.metrics.Metric("pair", lambda z, y: (1, 2), True)])
    with pytest.raises(ModelspaceError, match=r"metric 'complex' returned shape \[\] of torch.complex128"):
        ms.evaluate(population, triple(), [ms.metrics.Metric("complex", lambda z, y: z.sum() * 1j, True)])


def test_a_member_gone_astray_ends_nobody_s_evaluation():
    def strict(outputs, labels):
        if not outputs.isfinite().all():
            raise ValueError("Input contains NaN")
        return 1.0

    population = ms.ModelSpace(three, dtype=torch.float64, input_shape=(5,)).sample(2)
    population.points[0, 0] = torch.nan
    found = ms.evaluate(population, triple(), [strict])["strict"]
    assert np.isnan(found[0])
    assert found[1] == 1
