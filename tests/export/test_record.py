"""What is exported, without the tools: names, quartiles, settings."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from modelspace.export.record import name_of, record_of, settings_of


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        ({}, "seeds"),
        ({"lr": 0.01}, "lr=0.01"),
        ({"lr": 0.0001, "momentum": 0.9}, "lr=0.0001,momentum=0.9"),
        ({"betas": (0.9, 0.999)}, "betas=0.9-0.999"),
        ({"lr": 0.123456789}, "lr=0.123456789"),
        ({"note": "../a b"}, "note=.._a_b"),
    ],
)
def test_names_are_fit_for_folders(columns, name):
    assert name_of(columns) == name


def by_hand():
    members = pd.DataFrame({"seed": [0, 1, 0, 1], "lr": [0.1, 0.1, 0.2, 0.2], "data_seed": [4, 5, 4, 5]})
    loss = np.array([[3.0, 2.0, 1.0], [3.0, np.nan, np.nan], [5.0, 4.0, np.nan], [np.nan] * 3])
    status = ["finished", "diverged", "stopped early", "unfinished"]
    table = members.assign(status=status, steps=0, train_loss=[1.0, 3.0, 4.0, np.nan])
    return settings_of(members, table, {"train_loss": loss})


def test_the_diverged_are_counted_from_the_epoch_in_which_they_did():
    first, second = by_hand()
    assert (first.name, first.columns, first.rows.tolist()) == ("lr=0.1", {"lr": 0.1}, [0, 1])
    assert first.diverged.tolist() == [0, 1, 1]
    assert second.diverged.tolist() == [0, 0, 0]
    assert first.curves["train_loss"].median.tolist() == [3.0, 2.0, 1.0]


def test_the_last_scores_are_those_of_members_that_ended_and_did_not_diverge():
    first, second = by_hand()
    assert first.final["train_loss"] == {"n": 1, "q1": 1.0, "median": 1.0, "q3": 1.0}
    assert second.final["train_loss"]["median"] == 4.0


def test_settings_of_one_name_get_another_each():
    members = pd.DataFrame({"seed": [0, 0], "note": ["a/b", "a_b"]})
    table = members.assign(status="finished", train_loss=0.0)
    names = [s.name for s in settings_of(members, table, {"train_loss": np.zeros((2, 1))})]
    assert names == ["note=a_b", "note=a_b-1"]


def test_a_folder_s_record_is_the_run_s(run):
    ours, theirs = record_of(run), record_of(run.folder)
    assert (ours.title, ours.data, ours.recipe) == (theirs.title, theirs.data, theirs.recipe)
    pd.testing.assert_frame_equal(ours.table, theirs.table)
    for one, other in zip(ours.settings, theirs.settings, strict=True):
        for name, value in dataclasses.asdict(one).items():
            np.testing.assert_equal(value, getattr(other, name))
