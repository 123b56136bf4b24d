"""The record, its three forms, and what is asked for."""

import json

import pytest
import torch
from support.cases import DummyNet
from torch import nn

import modelspace as ms
from modelspace.doctor import RULES
from modelspace.doctor import subject as subjects
from modelspace.plain import plain


def softmaxed():
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 3), nn.Softmax(dim=1))


def test_the_worst_comes_first():
    found = ms.doctor(softmaxed, inputs=(4,), loss="cross_entropy")
    assert [f.severity for f in found.findings] == ["error", "info"]
    text = str(found)
    assert text.index("ERROR softmax-before-cross-entropy") < text.index("INFO inplace-hook")


def test_every_rule_is_checked_or_skipped_with_a_reason():
    found = ms.doctor(softmaxed, inputs=(4,))
    assert sorted([*found.checked, *found.skipped]) == sorted(rule.name for rule in RULES)
    assert "loss=" in found.skipped["softmax-before-cross-entropy"]
    assert "data=" in found.skipped["label-coding"]
    assert "formula=" in found.skipped["not-the-formula"]
    assert all(reason in str(found) for reason in found.skipped.values())


def test_without_a_shape_the_static_rules_are_left():
    found = ms.doctor(nn.Linear(4, 3).requires_grad_(False))
    assert [f.rule for f in found.findings] == ["frozen-parameters"]
    assert "inputs=" in found.skipped["batch-reshape"]


def test_plain_values_are_json():
    found = ms.doctor(softmaxed, inputs=(4,), loss="cross_entropy")
    again = json.loads(json.dumps(plain(found)))
    assert set(again) >= {"findings", "checked", "skipped", "seconds"}
    assert set(again["findings"][0]) >= {"rule", "severity", "where", "evidence", "fix"}


def test_the_page_is_escaped():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module("<script>", nn.Linear(4, 3))
            self.ghost = nn.Linear(2, 2)

        def forward(self, x):
            return getattr(self, "<script>")(x).softmax(1)

    page = ms.doctor(Net, inputs=(4,), loss="cross_entropy")._repr_html_()
    unused = ms.Finding("r", "error", "<b>", "a & b", "<script>alert(1)</script>", "s")
    own = ms.Diagnosis("<i>", (unused,), (), {"x": "<u>"}, 0.0)._repr_html_()
    assert "<script>" not in page + own
    assert not {tag for tag in ("<b>", "<i>", "<u>") if tag in own}
    assert "&lt;script&gt;" in own
    assert "a &amp; b" in own


def test_ignore_and_only():
    assert ms.doctor(
        softmaxed, inputs=(4,), loss="cross_entropy", ignore=["softmax-before-cross-entropy"]
    ).healthy
    assert ms.doctor(softmaxed, inputs=(4,), only=["inplace-hook"]).checked == ("inplace-hook",)


def test_an_unknown_rule_is_refused_with_the_nearest():
    with pytest.raises(ms.ModelspaceError, match="did you mean 'batch-reshape'"):
        ms.doctor(softmaxed, inputs=(4,), ignore=["batch-reshap"])


def test_a_failing_forward_names_layer_shapes_and_line():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(5, 3)

        def forward(self, x):
            return self.fc(x.flatten(1))

    with pytest.raises(ms.ModelspaceError, match=r"layer fc .*\[5, 4\].*5.*test_diagnosis.py:\d+"):
        ms.doctor(Net, inputs=(4,))


def test_a_rule_that_breaks_is_listed_and_the_others_go_on(monkeypatch):
    from modelspace.doctor import Rule, examine

    def probe(subject):
        raise ZeroDivisionError("by nothing")

    monkeypatch.setitem(ms.doctor.__globals__, "RULES", (Rule("broken", "info", "", probe), *RULES))
    found = examine.doctor(DummyNet, inputs=(3, 7, 7), only=["broken", "inplace-hook"])
    assert found.skipped == {"broken": "broken failed: ZeroDivisionError: by nothing"}
    assert found.checked == ("inplace-hook",)


def test_a_loss_whose_backward_fails_is_an_error_at_its_line():
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            return z.square().mean()

        @staticmethod
        def backward(ctx, gradient):
            raise ValueError("no slope")

    x = torch.randn(8, 4)
    found = ms.doctor(nn.Linear(4, 3), inputs=x, labels=x[:, :3], loss=lambda z, y: Broken.apply(z - y))
    (seen,) = found.of("backward-fails")
    assert seen.where.startswith("the loss, ")
    assert f"test_diagnosis.py:{Broken.backward.__code__.co_firstlineno + 2}" in seen.where
    assert seen.evidence == "the backward of the loss fails: ValueError: no slope"
    assert not any(" failed: " in why for why in found.skipped.values()), found.skipped


def test_what_is_shown_is_printable():
    net = nn.Sequential()
    net.add_module("a\x1b[31mb", nn.Linear(4, 3))
    net.add_module("ghost", nn.Softmax(1))
    text = str(
        ms.doctor(
            net, inputs=(4,), loss="cross_entropy", only=["softmax-before-cross-entropy", "linear-chain"]
        )
    )
    hostile = ms.Finding("r", "error", "a\x1b]0;title\x07", "b\u202e", "c\nd", "s")
    text += str(ms.Diagnosis("e\x9b", (hostile,), (), {}, 0.0))
    assert "\x1b" not in text
    assert r"a\x1b]0;title\x07" in text
    assert r"b\u202e" in text
    assert "        c\n        d" in text
    assert r"e\x9b: 1 error" in text


def test_what_is_too_large_is_looked_at_by_its_shapes(monkeypatch):
    monkeypatch.setattr(subjects, "LARGEST_PARAMETERS", 1000)
    monkeypatch.setitem(ms.doctor.__globals__, "LARGEST_PARAMETERS", 1000)
    found = ms.doctor(DummyNet, inputs=(3, 7, 7), loss="cross_entropy", classes=9)
    assert {f.rule for f in found.findings} == {"batch-reshape", "output-count", "inplace-hook"}
    assert found.skipped["batch-mixing"].startswith("too large to run values: 2.5e+03 parameters")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"inputs": (4,), "data": "digits"}, "give either"),
        ({"inputs": (4,), "labels": torch.zeros(3)}, "no samples"),
        ({"inputs": torch.zeros(2, 4), "labels": torch.zeros(3)}, "3 labels and 2 samples"),
        ({"inputs": (4,), "classes": 0}, "at least 1"),
        ({"inputs": (4,), "loss": "cros_entropy"}, "cross_entropy"),
    ],
)
def test_wrong_arguments_are_refused(given, message):
    with pytest.raises(ms.ModelspaceError, match=message):
        ms.doctor(softmaxed, **given)


def test_a_space_brings_its_own_shape_and_arguments():
    def made(width):
        return nn.Sequential(nn.Linear(4, width), nn.Softmax(dim=1))

    space = ms.ModelSpace(made, width=3, input_shape=(4,))
    assert ms.doctor(space, loss="cross_entropy").of("softmax-before-cross-entropy")


def test_two_examinations_agree():
    first, second = (ms.doctor(DummyNet, inputs=(3, 7, 7), loss=nn.NLLLoss(), seed=4) for _ in range(2))
    assert first.findings == second.findings
