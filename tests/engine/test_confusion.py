import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from support.cases import DummyNet
from torch import nn

import modelspace as ms
from modelspace.data import Data, Split
from modelspace.errors import ModelspaceError
from modelspace.metrics import Metric


class Twice(nn.Linear):
    """Two outputs, one of them the logits."""

    def forward(self, x):
        return {"logits": super().forward(x), "more": x}


class Read(nn.Linear):
    """Reads a value: one member at a time."""

    def forward(self, x):
        return super().forward(x) * (2.0 if x.sum().item() > 0 else 1.0)


def data_of(labels, shape=(5,), **more):
    part = Split(torch.randn(len(labels), *shape, generator=torch.Generator().manual_seed(1)), labels)
    return Data("toy", part, part, part, **more)


@pytest.mark.parametrize("make", [nn.Linear, Twice, Read])
def test_counts_are_scikit_learns(make):
    labels = torch.randint(0, 3, (300,), generator=torch.Generator().manual_seed(0))
    data = data_of(labels, class_names=("oak", "<b>", "elm", "fir"))
    members = ms.ModelSpace(make, in_features=5, out_features=4).sample(seeds=3)
    found = ms.confusion(members, data)
    for k, module in enumerate(members.modules()):
        outputs = module(data.test.inputs)
        outputs = outputs["logits"] if isinstance(outputs, dict) else outputs
        expected = sk.confusion_matrix(labels, outputs.argmax(1), labels=range(4))
        assert (found.counts[k].numpy() == expected).all()
    assert found.member(1).loc["oak", "elm"] == found.counts[1, 0, 2]
    assert found.shares[0, :3].sum(1).tolist() == pytest.approx([1, 1, 1])
    assert found.shares[0, 3].isnan().all()
    assert "3 members on the test split, 4 classes" in repr(found)
    assert "<b>" not in found._repr_html_()
    assert "&lt;b&gt;" in found._repr_html_()


def test_of_a_run_of_signs_and_of_many_classes():
    data = ms.data.digits_7x7()
    run = ms.fit(ms.ModelSpace(DummyNet).sample(seeds=2), data, epochs=1)
    table = ms.evaluate(run.population, data, ["accuracy"])
    found = ms.confusion(run, data)
    right = found.counts.diagonal(dim1=1, dim2=2).sum(1) / found.counts.sum((1, 2))
    assert right.tolist() == pytest.approx(table["accuracy"].tolist())
    assert found.class_names == tuple("0123456789")
    signs = data_of(torch.tensor([1.0, -1.0] * 20))
    members = ms.ModelSpace(lambda: nn.Sequential(nn.Linear(5, 1), nn.Flatten(0))).sample(seeds=2)
    assert ms.confusion(members, signs).counts.sum(2).tolist() == [[20, 20]] * 2
    many = ms.confusion(
        ms.ModelSpace(nn.Linear, in_features=5, out_features=30).sample(seeds=1), data_of(torch.arange(30))
    )
    assert "the first 20 are shown" in many._repr_html_()


def test_what_is_no_confusion_is_said():
    members = ms.ModelSpace(nn.Linear, in_features=5, out_features=2).sample(seeds=1)
    with pytest.raises(ModelspaceError, match="is of class labels, and of toy they are: labels 2 float32"):
        ms.confusion(members, data_of(torch.zeros(9, 2)))
    with pytest.raises(ModelspaceError, match="unknown split 'tets'"):
        ms.confusion(members, data_of(torch.zeros(9).long()), "tets")
    with pytest.raises(ModelspaceError, match="labels out of range"):
        ms.confusion(members, data_of(torch.full((9,), 7)))


def test_a_traceable_metric_is_taken_of_all_members_at_once():
    """A user's own is called for each member, with plain tensors; what both give is one."""
    seen = []

    def spread(outputs, labels):
        seen.append(torch._C._functorch.is_batchedtensor(outputs))
        return outputs.std() + labels.sum()

    data = data_of(torch.arange(300) % 4)
    members = ms.ModelSpace(nn.Linear, in_features=5, out_features=4).sample(seeds=6)
    together = ms.evaluate(members, data, [Metric("spread", spread, higher_is_better=True, traceable=True)])
    assert True in seen
    seen.clear()
    apart = ms.evaluate(members, data, [spread])
    assert seen == [False] * 6
    assert together["spread"].tolist() == pytest.approx(apart["spread"].tolist())
    names = ["macro_f1", "auroc", "ece", "balanced_accuracy", "f1_2", "accuracy"]
    table = ms.evaluate(members, data, names)
    for name in names:
        metric = ms.metrics.resolve(name)
        expected = [float(metric(m(data.test.inputs).detach(), data.test.labels)) for m in members.modules()]
        assert table[name].tolist() == pytest.approx(expected)


def test_metrics_are_followed_in_a_fit():
    members = ms.ModelSpace(nn.Linear, in_features=5, out_features=4).sample(seeds=3, lr=[0.1])
    how = {"metrics": ["macro_f1", "auroc"], "early_stopping": ms.EarlyStopping(1, "validation_macro_f1")}
    run = ms.fit(members, data_of(torch.arange(120) % 4), epochs=3, **how)
    assert {"validation_macro_f1", "validation_auroc"} <= set(run.history)


def test_a_fold_s_metric_is_of_the_fold_s_own_samples():
    data = data_of(torch.arange(120) % 4)
    members = ms.ModelSpace(nn.Linear, in_features=5, out_features=4).sample(
        seeds=1, lr=[0.1], fold=[0, 1, 2]
    )
    run = ms.fit(members, data, epochs=1, metrics=["macro_f1"], batch_size=16, plan="vmap")
    views = ms.data.views_of(data, members.table[["fold"]], None, 0)
    for k, module in enumerate(run.population.modules()):
        held = views.scored.take(views.validation(k))
        expected = sk.f1_score(held.labels, module(held.inputs).argmax(1), average="macro")
        assert run.table["validation_macro_f1"][k] == pytest.approx(expected)


class Signed(nn.Linear):
    """Of which the sign is an argument of the architecture: a column whose values have programs of their own."""

    def __init__(self, sign=1.0):
        super().__init__(5, 4)
        self.sign = sign

    def forward(self, x):
        return self.sign * super().forward(x)


def test_members_of_several_programs_stay_in_their_order():
    data = data_of(torch.arange(40) % 4)
    members = ms.ModelSpace(Signed, input_shape=(5,)).sample(seeds=2, sign=[1.0, -1.0])
    found = ms.confusion(members, data)
    for k, row in members.table.iterrows():
        torch.manual_seed(int(row["seed"]))
        expected = sk.confusion_matrix(data.test.labels, Signed(row["sign"])(data.test.inputs).argmax(1))
        assert (found.counts[k].numpy() == expected).all()


def test_the_scores_of_each_class_are_scikit_learn_s():
    data = ms.data.digits()
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    population = ms.ModelSpace(network, input_shape=(1, 8, 8)).sample(3)
    found = ms.confusion(population, data).by_class
    outputs = ms.predict(population, data.test).argmax(2).numpy()
    each = [sk.precision_recall_fscore_support(data.test.labels, own, zero_division=0) for own in outputs]
    for i, name in enumerate(("precision", "recall", "f1")):
        values = np.stack([scores[i] for scores in each])
        np.testing.assert_allclose(found[name], values.mean(0), atol=1e-12)
        np.testing.assert_allclose(found[f"{name}_sd"], values.std(0, ddof=1), atol=1e-12)
    assert found["support"].tolist() == each[0][3].tolist()
    assert ms.confusion(population[[0]], data).by_class["f1_sd"].isna().all()
