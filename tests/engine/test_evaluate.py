import sys

import numpy as np
import pytest
import torch
from cases import Dropouts, DummyNet, Residual, mlp, named
from torch import nn

import modelspace as ms
from modelspace.data import Data, Split
from modelspace.engine import Scoring, members_scores, probe
from modelspace.errors import ModelspaceError


def plain(population, split, score):
    with torch.no_grad():
        return [float(score(m.eval()(split.inputs), split.labels)) for m in population.modules()]


def accuracy(outputs, labels):
    return (outputs.argmax(1) == labels).double().mean()


@pytest.mark.parametrize("make", [mlp, Residual, Dropouts], ids=lambda m: m.__name__)
def test_scores_are_the_plain_modules(make):
    shape = (6,) if make is mlp else (2, 4, 4)
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


def test_probe_wants_one_tensor():
    with pytest.raises(ModelspaceError, match="LSTM returned a tuple: one tensor is expected"):
        probe(nn.LSTM(2, 2), torch.zeros(3, 1, 2))
    assert probe(DummyNet(), torch.zeros(2, 3, 7, 7)).shape == (2, 10)
