import json
import os
import signal
import time

import pytest
import torch

from modelspace.engine import measurements
from modelspace.engine.lowerings import linear
from modelspace.engine.measurements import (
    Measurements,
    Timing,
    fingerprint,
    timing_in_processes,
    timing_of_calls,
)
from modelspace.processes import process_index

WAY = "vmap of 8"


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
    assert Measurements("a").of("another", lambda: Timing(3.0)) == 3.0
    assert not Measurements("a").new


KEY = WAY


def content(seconds, written=None, **others):
    """A file as it is written, with the checksum of what is in it."""
    written = time.time() if written is None else written
    try:
        checksum = measurements._checksum({name: float(value) for name, value in seconds.items()})
    except (AttributeError, TypeError, ValueError, OverflowError):
        checksum = "0"
    return json.dumps({"written": written, "seconds": seconds, "checksum": checksum, **others})


DAMAGED = {
    "nothing": "",
    "cut short": "{",
    "a list": "[1]",
    "null": "null",
    "no checksum": '{"written": 0, "seconds": {}}',
    "no seconds": '{"written": "x"}',
    "seconds in a list": content([1.0]),
    "zero": content({KEY: 0}),
    "negative": content({KEY: -1.0}),
    "not a number": content({KEY: float("nan")}),
    "infinite": content({KEY: float("inf")}),
    "a year": content({KEY: 3e7}),
    "huge": content({KEY: 1e300}),
    "beyond 64 bits": content({KEY: 10**400}),
    "beyond the digits that Python reads": '{"written": 1' + "0" * 5000 + "}",
    "a text": content({KEY: "1"}),
    "true": content({KEY: True}),
    "an object": content({KEY: {}}),
    "written in words": content({KEY: 1.0}, "x"),
    "another entry": content({KEY: 1.0}, more=1),
    "another figure": content({KEY: 1.0}).replace("1.0", "900.0"),
    "nested deeply": "[" * 200_000,
    "nested deeply within": '{"written": 1, "checksum": "", "seconds": ' + '{"a":' * 100_000,
    "no text": b"\xff\xfe\x00",
    "a lone surrogate": '"\\ud800"',
    "too large": " " * (2**20 + 1),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_said_once_and_written_anew(folder, capsys, damage):
    measured("a", 1.5)
    (path,) = folder.rglob("*.json")
    path.write_bytes(damage if isinstance(damage, bytes) else damage.encode())
    assert measured("a", 2.5) == 2.5
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert f"measured anew: {path} is damaged" in said
    assert measured("a", 3.5) == 2.5
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("written", [0, 4e9, -1e300])
def test_an_old_file_or_one_of_another_age_is_measured_anew(folder, capsys, written):
    measured("a", 1.5)
    (path,) = folder.rglob("*.json")
    path.write_text(content({KEY: 1.5}, written))
    assert measured("a", 2.5) == 2.5
    assert capsys.readouterr().err == ""


def test_a_folder_in_its_place_is_no_file(folder):
    measured("a", 1.5)
    (path,) = folder.rglob("*.json")
    path.unlink()
    path.mkdir()
    assert measured("a", 2.5) == 2.5


def test_a_way_without_room_is_tried_again_and_no_time_is_nothing(folder):
    assert measured("a", float("inf")) == float("inf")
    assert measured("a", 0.0) > 0
    assert 0 < measured("a", 1.0) < 1e-9


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


def test_a_process_that_is_killed_while_it_is_timed_has_no_time(capsys):
    def step():
        if process_index() == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    found = timing_in_processes(step, (), 2, 0.0)
    assert found == (float("inf"), False)
    assert "a worker process ended (killed by SIGKILL) while the plan was measured" in capsys.readouterr().err


@pytest.fixture(autouse=True)
def _anew():
    measurements._trials.cache_clear()
    yield
    measurements._trials.cache_clear()


def test_each_shape_is_tried_once_and_remembered(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELSPACE_CACHE", str(tmp_path))
    tried = []
    monkeypatch.setattr(linear, "seconds_of", lambda call: tried.append(call) or float(len(tried)))
    w, c = torch.zeros(4, 5, 3), torch.zeros(4, 3, 7)
    linear.matrix_product(w, c)
    linear.matrix_product(w[:2], c[:2])  # however many members
    assert len(tried) == 2
    measurements._trials.cache_clear()  # as in another process
    linear.matrix_product(w, c)
    assert len(tried) == 2
    (file,) = tmp_path.rglob("*.json")
    assert list(json.loads(file.read_text())["seconds"].values()) == [0.5]


def test_the_faster_way_is_found():
    slow, fast = (lambda: time.sleep(4e-3)), (lambda: time.sleep(1e-3))
    seconds = measurements.seconds_of
    assert measurements.gain("slow first", lambda: (seconds(slow), seconds(fast))) > 1.5
    assert measurements.gain("fast first", lambda: (seconds(fast), seconds(slow))) < 0.67


def test_what_a_run_measured_counts_for_more_than_what_is_measured_here():
    measurements.adopt_gains({"a shape": 3.0})
    assert measurements.gain("a shape", lambda: (1.0, 1.0)) == 3.0
    assert measurements.known_gains()["a shape"] == 3.0
