"""What a run's folder says without its architecture is what the run in memory says."""

import os

import numpy as np
import pandas as pd
import pytest
import torch
from support import plans
from support.cases import named
from support.runs import altered, put

import modelspace as ms

CASE = named("residual BatchNorm")
CHOICES = {"lowering": "vmap", "shard": 4, "compile": False, "threads": 1, "workers": 1}


def fit(out, seeds=5, lr=(0.01, 0.03, 1e300), **settings):
    population = CASE.space(torch.float32).sample(seeds=seeds, lr=list(lr))
    settings = {"epochs": 3, "batch_size": 8, "optimizer": ms.Adam(), **settings}
    return plans.fit(population, CASE.data(), out=out, **{**CHOICES, **settings})


@pytest.mark.parametrize("keep", ["all", "scores", 2])
def test_a_folder_says_what_the_run_said(tmp_path, keep):
    run = fit(tmp_path, keep=keep)
    written = ms.open_run(tmp_path)
    pd.testing.assert_frame_equal(written.table, run.table)
    assert (written.title, written.data) == (run.space.title, run.data)
    assert written.settings == run.settings
    assert written.plan == run.plan
    assert written.monitor == "validation_accuracy"
    curves = ms.open_run(tmp_path).history
    assert list(curves) == list(run.history)
    for name, values in run.history.items():
        np.testing.assert_array_equal(curves[name], values)


def test_a_longer_run_half_done_has_the_curves_that_there_are(tmp_path):
    run = fit(tmp_path)
    put(tmp_path, settings={**run.settings, "epochs": 7})
    curves = ms.open_run(tmp_path).history
    np.testing.assert_array_equal(curves["train_loss"][:, :3], run.history["train_loss"])
    assert np.isnan(curves["train_loss"][:, 3:]).all()


def test_a_damaged_shard_is_said_and_the_other_curves_are_read(tmp_path, capsys):
    run = fit(tmp_path, lr=[0.01, 0.03])
    path = sorted((tmp_path / "shards").iterdir())[0]
    path.write_bytes(path.read_bytes()[:-10])
    curves = ms.open_run(tmp_path).history
    assert f"shard {path.stem} is damaged" in capsys.readouterr().err
    left = np.isnan(curves["train_loss"][:, 0]) & ~np.isnan(run.history["train_loss"][:, 0])
    assert 0 < left.sum() < len(left)


def test_before_anything_is_finished(tmp_path):
    fit(tmp_path)
    altered(tmp_path, "DELETE FROM shards")
    written = ms.open_run(tmp_path)
    assert set(written.status) == {"unfinished"}
    assert written.interrupted
    assert np.isnan([each.median for each in written.responses()[1]]).all()
    altered(tmp_path, "DELETE FROM members")
    assert len(ms.open_run(tmp_path).table) == len(ms.open_run(tmp_path).responses()[0]) == 0


@pytest.mark.parametrize("bare", [False, True])
def test_a_run_that_has_not_begun_is_one_message(tmp_path, bare):
    fit(tmp_path, lr=[0.01])
    if bare:
        (tmp_path / "run.sqlite").write_bytes(b"")
    else:
        altered(tmp_path, "DELETE FROM run", "DELETE FROM members", "DELETE FROM shards", sealed=False)
    with pytest.raises(ms.ModelspaceError, match=r"before it began to train|holds no run yet"):
        ms.open_run(tmp_path)
    with pytest.raises(ms.ModelspaceError, match=r"before it began to train|holds no run yet"):
        ms.open_run(tmp_path).history


def test_a_folder_that_may_only_be_read(tmp_path, monkeypatch):
    run = fit(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    pd.testing.assert_frame_equal(ms.open_run(tmp_path).table, run.table)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
