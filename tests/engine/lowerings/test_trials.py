"""Ways of computing that are tried once for each shape."""

import json
import time

import pytest
import torch

from modelspace.engine import measurements
from modelspace.engine.lowerings import linear


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
    assert (
        measurements.gain(
            "slow first", lambda: (measurements.seconds_of(slow), measurements.seconds_of(fast))
        )
        > 1.5
    )
    assert (
        measurements.gain(
            "fast first", lambda: (measurements.seconds_of(fast), measurements.seconds_of(slow))
        )
        < 0.67
    )


def test_what_a_run_measured_counts_for_more_than_what_is_measured_here():
    measurements.adopt_gains({"a shape": 3.0})
    assert measurements.gain("a shape", lambda: (1.0, 1.0)) == 3.0
    assert measurements.known_gains()["a shape"] == 3.0
