"""The counts by hand that the counters are held against, held against ours and the modules themselves."""

import sys

import pytest

from benchmarks import anatomy as benchmark
from benchmarks.anatomy_models import subjects
from benchmarks.anatomy_peers import COUNTERS, counted, ours


@pytest.mark.parametrize("subject", subjects(), ids=lambda s: s.name)
def test_ours_are_the_counts_by_hand(subject):
    net = subject.make().eval()
    assert subject.parameters == sum(p.numel() for p in net.parameters())
    assert ours(net, subject.sample()) == (subject.parameters, subject.flops)


def test_a_counter_that_is_missing_or_fails_has_a_cell_that_says_so(monkeypatch):
    monkeypatch.setitem(COUNTERS, "torchinfo", (COUNTERS["torchinfo"][0], "no_such_package"))
    monkeypatch.setitem(COUNTERS, "thop", (lambda net, x: 1 / 0, "torch"))
    subject = subjects()[0]
    assert counted("torchinfo", subject.make(), subject.sample()) == "not installed"
    assert counted("thop", subject.make(), subject.sample()) == "fails: ZeroDivisionError"


def test_the_table_and_the_status(monkeypatch, capsys, tmp_path):
    only = {
        "modelspace": COUNTERS["modelspace"],
        "half": (lambda net, x: (None, ours(net, x)[1] // 2), "torch"),
    }
    monkeypatch.setattr(benchmark, "COUNTERS", only)
    monkeypatch.setattr(benchmark, "counted", lambda name, net, x: only[name][0](net, x))
    monkeypatch.setattr(sys, "argv", ["anatomy", "--out", str(tmp_path / "found.json")])
    assert benchmark.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("DummyNet")).split()[-3:] == ["exact", "-50.0", "%"]
    assert next(line for line in lines if line.startswith("exact")).split() == ["exact", "12", "0"]
    assert (tmp_path / "found.json").exists()
    monkeypatch.setitem(only, "modelspace", (lambda net, x: (0, 0), "torch"))
    assert benchmark.main() == 1
