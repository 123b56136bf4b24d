"""A fit that is killed, again and again, at random moments ends as if it had not been."""

import os
import random
import signal
import sys
import time
import warnings
from contextlib import suppress

import pytest
import torch
from runs.test_recorder import CHOICES
from support import plans
from support.cases import named
from support.runs import assert_same

import modelspace as ms
from modelspace.runs.catalogue import Catalogue

CASE = named("MLP dropout")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks and kills")


@pytest.fixture(autouse=True)
def _one_thread():
    """A forked process hangs in OpenMP where its parent has computed with several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def fit(folder, **settings):
    population = CASE.space(torch.float32).sample(seeds=12, lr=[0.01, 1e300])
    data = CASE.data()
    return plans.fit(
        population,
        data,
        out=folder,
        epochs=20,
        batch_size=8,
        optimizer=ms.Adam(),
        checkpoint_seconds=0.05,
        **{**CHOICES, "shard": 3, **settings},
    )


def started(folder, settings):
    """A child process that fits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            fit(folder, **settings)
            os._exit(0)
        except BaseException:
            os._exit(1)
    return child


def killed_until_it_ends(folder, settings, seed):
    """How often it was killed before it came to its end.

    Every other time it is killed at any moment from its start on; the others after it has written something, so that
    it comes to its end.
    """
    chance = random.Random(seed)
    for kills in range(300):
        before = written(folder)
        child = started(folder, settings)
        moment, left = None, chance.uniform(0.0, 0.3)
        while moment is None or time.monotonic() < moment:
            if moment is None and (kills % 2 or written(folder) != before):
                moment = time.monotonic() + left
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                assert status == 0
                return kills
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if (folder / "run.sqlite").exists():
            with suppress(ms.ModelspaceError):  # killed before it had written anything
                assert len(Catalogue(folder).keys) in (0, 24)
    raise AssertionError("it never came to its end")


def written(folder):
    """The files of the shards that stand, and when each was written."""
    found = set()
    for path in (folder / "shards").glob("[!.]*"):
        with suppress(FileNotFoundError):  # it may be removed just now
            found.add((path.name, path.stat().st_mtime_ns))
    return found


@pytest.mark.parametrize(
    ("settings", "seed"),
    [
        pytest.param({}, 1, id="one process"),
        pytest.param({"workers": 2}, 2, id="two processes", marks=pytest.mark.slow),
        pytest.param({"keep": 2}, 3, id="the best two", marks=pytest.mark.slow),
    ],
)
def test_killed_at_random_moments_it_ends_as_if_it_had_not_been(tmp_path, settings, seed):
    whole = fit(None, **{**settings, "workers": 1})
    kills = killed_until_it_ends(tmp_path, settings, seed)
    assert kills >= 3
    assert_same(fit(tmp_path, **settings), whole)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_fifty_times(tmp_path, workers):
    settings = {"workers": workers, "shard": 2}
    whole = fit(None, shard=2)
    kills, seed = 0, 0
    while kills < 50:
        folder = tmp_path / str(seed)
        kills += killed_until_it_ends(folder, settings, seed)
        assert_same(fit(folder, **settings), whole)
        seed += 1
