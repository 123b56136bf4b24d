import os
import time

import pytest
import torch

from modelspace.engine.measurements import (
    Measurements,
    Timing,
    Way,
    fingerprint,
    timing_in_processes,
    timing_of_calls,
)

WAY = Way("vmap", 8)


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELSPACE_CACHE", str(tmp_path))
    return tmp_path


def measured(name, seconds):
    found = Measurements(name)
    result = found.of(WAY, lambda: Timing(seconds))
    found.keep()
    return result


def test_a_time_is_measured_once(folder):
    assert measured("a", 1.5) == 1.5
    assert measured("a", 9.0) == 1.5
    assert measured("b", 9.0) == 9.0
    assert Measurements("a").of(Way("vmap", 8, threads=2), lambda: Timing(3.0)) == 3.0
    assert not Measurements("a").new


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", '{"written": 0, "seconds": {}}', '{"written": "x"}', "null"]
)
def test_a_damaged_or_old_file_is_measured_anew(folder, content):
    measured("a", 1.5)
    (path,) = folder.rglob("*.json")
    path.write_text(content)
    assert measured("a", 2.5) == 2.5
    assert measured("a", 3.5) == 2.5


def test_nothing_is_kept_where_there_is_no_place(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELSPACE_CACHE", "")
    measured("a", 1.5)
    assert measured("a", 2.5) == 2.5
    file = tmp_path / "file"
    file.write_text("not a folder")
    monkeypatch.setenv("MODELSPACE_CACHE", str(file))
    assert measured("a", 3.5) == 3.5
    assert file.read_text() == "not a folder"


def test_without_a_fingerprint_nothing_is_remembered(folder):
    measured(None, 1.5)
    assert measured(None, 2.5) == 2.5
    assert not list(folder.rglob("*"))


def test_what_was_timed_beside_other_work_is_not_remembered(folder):
    found = Measurements("a")
    assert found.of(WAY, lambda: Timing(9.0, quiet=False)) == 9.0
    assert found.of(WAY, lambda: Timing(1.0)) == 9.0
    found.keep()
    assert measured("a", 1.5) == 1.5


def test_a_process_that_waits_is_not_quiet(monkeypatch):
    assert not timing_of_calls(time.sleep, (0.01,), 0.0).quiet
    monkeypatch.setattr(time, "process_time", time.perf_counter)
    assert timing_of_calls(time.sleep, (0.01,), 0.0).quiet


def test_a_fingerprint_changes_with_its_parts():
    names = [fingerprint("a", 1), fingerprint("a", 2), fingerprint("b", 1)]
    assert len(set(names)) == 3
    assert fingerprint("a", 1) == names[0]


def test_a_short_budget_is_three_calls_after_a_warming_one():
    calls = []
    timing_of_calls(lambda: calls.append(1), (), 0.0)
    assert len(calls) == 4


def test_processes_call_at_once():
    spent = torch.zeros(3)
    parent = os.getpid()

    def step():
        assert os.getpid() != parent

    assert 0 < timing_in_processes(step, (), 3, 0.0).seconds < 1
    assert spent.sum() == 0
