"""Samples of unequal weight: Σ wᵢ ℓᵢ / Σ wᵢ, against a bare loop, through fit, evaluate and tables."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from support.plain import relative_error
from torch import nn

import modelspace as ms
from modelspace.data import Data, Split, epoch_indices, load, of_splits
from modelspace.errors import ModelspaceError
from modelspace.losses import Weighted, resolve
from modelspace.nest import WeightedLabels

G = torch.Generator().manual_seed(0)
X, Y = torch.randn(60, 4, generator=G, dtype=torch.float64), torch.arange(60) % 3
W = torch.rand(60, generator=G, dtype=torch.float64)
SPACE = ms.ModelSpace(lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)), dtype=torch.float64)


def weighted(x=X, y=Y, w=W):
    part = x, WeightedLabels(y, w)
    data = of_splits(part, part, part)
    splits = (Split(x, WeightedLabels(s.labels.labels, w)) for s in data.splits.values())
    return Data("d", *splits)


def user(z, y):
    return F.cross_entropy(z, y, label_smoothing=0.1)


@pytest.mark.parametrize("loss", ["cross_entropy", "crammer_singer", "user", "mse", "focal"])
def test_is_the_weighted_mean_of_each_sample_s_loss(loss):
    if loss == "mse":
        y, z = torch.randn(60, 2, generator=G).double(), X[:, :2]
    else:
        loss, y, z = user if loss == "user" else loss, Y, X[:, :3]
    of = resolve(loss)
    each = torch.stack([of(z[i : i + 1], y[i : i + 1]) for i in range(60)])
    found = Weighted(of)(z, WeightedLabels(y, W))
    assert found.item() == pytest.approx(((W * each).sum() / W.sum()).item(), rel=1e-12)
    equal = Weighted(of)(z, WeightedLabels(y, torch.full_like(W, 0.3)))
    assert equal.item() == pytest.approx(of(z, y).item(), rel=1e-12)


@pytest.mark.parametrize("plan", ["vmap", "loop"])
def test_fits_as_a_bare_loop(plan):
    data = weighted()
    run = ms.fit(SPACE.sample(seeds=2, lr=[0.1]), data, optimizer="sgd", epochs=3, batch_size=20, plan=plan)
    for k, net in enumerate(run.population.modules()):
        torch.manual_seed(k)
        bare = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
        optimizer = torch.optim.SGD(bare.parameters(), lr=0.1)
        for epoch in range(3):
            for rows in epoch_indices(60, 20, 0, epoch):
                optimizer.zero_grad()
                each = F.cross_entropy(bare(X[rows]), Y[rows], reduction="none")
                ((W[rows] * each).sum() / W[rows].sum()).backward()
                optimizer.step()
        both = [torch.cat([p.detach().flatten() for p in each.parameters()]) for each in (net, bare)]
        assert relative_error(*both) < 1e-9
        each = F.cross_entropy(bare(X), Y, reduction="none")
        expected = ((W * each).sum() / W.sum()).item()
        assert run.table["validation_loss"][k] == pytest.approx(expected, rel=1e-9)
        accuracy = (bare(X).argmax(1) == Y).double().mean().item()
        assert run.table["validation_accuracy"][k] == pytest.approx(accuracy), "a metric counts samples alike"


def test_columns_of_losses_and_metrics_go_on():
    data = weighted()
    members = SPACE.sample(seeds=1, loss=["cross_entropy", "focal"], gamma=[0.0, 3.0])
    run = ms.fit(members, data, epochs=1)
    losses = run.table["validation_loss"].tolist()
    assert losses[0] == losses[2] != losses[3], "the focal loss alone has a gamma"
    table = ms.evaluate(run.population, data, ["macro_f1", "accuracy"])
    assert table["accuracy"].between(0, 1).all()
    assert ms.confusion(run, data).counts.sum((1, 2)).tolist() == [60] * 4


def test_weights_of_sources(tmp_path):
    data = load((X.float(), Y), weights=W.numpy(), name="d")
    assert "3 classes, weighted" in repr(data)
    row = {tuple(x.tolist()): w for x, w in zip(X.float(), W.float().tolist(), strict=True)}
    for split in data.splits.values():
        assert [row[tuple(x.tolist())] for x in split.inputs] == split.labels.weights.tolist()
    frame = pd.DataFrame(X.numpy(), columns=list("abcd")).assign(y=Y.numpy(), w=W.numpy())
    table = load(frame, target="y", weights="w")
    assert table.encoder.numbers == tuple("abcd")
    assert table.classes == 3
    assert table.notes[-1] == "weights of the samples: 'w'"


@pytest.mark.parametrize(
    ("source", "weights", "message"),
    [
        ((X, Y), W[:5], r"weights of shape \[5\] for 60 samples: give one finite number of at least 0"),
        ((X, Y), -W, "give one finite number of at least 0 a sample"),
        ((X, Y), np.full(60, np.nan), "give one finite number"),
        ((X, Y), 0 * W, "not all of them 0"),
        (X, W, "has no labels, of which weights= are"),
        ((X, Y), "w", "weights='w' is a column of a table"),
        ("digits", W, "is built in, without groups and weights"),
    ],
)
def test_weights_that_are_none(source, weights, message):
    with pytest.raises(ModelspaceError, match=message):
        load(source, weights=weights)


def test_label_noise_with_weights_is_refused():
    with pytest.raises(ModelspaceError, match="label_noise replaces labels that have weights"):
        ms.fit(SPACE.sample(seeds=1, label_noise=[0.1]), weighted(), epochs=1)
