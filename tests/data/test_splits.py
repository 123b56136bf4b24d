import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modelspace.data.splits import check_fractions, split_indices
from modelspace.errors import ModelspaceError


@st.composite
def fractions(draw):
    parts = [draw(st.integers(1, 20)), draw(st.integers(0, 20)), draw(st.integers(0, 20))]
    return tuple(part / sum(parts) for part in parts)


@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=150), splits=fractions(), seed=st.integers(0, 99)
)
def test_splits_are_disjoint_complete_and_stratified_to_within_one(labels, splits, seed):
    labels = torch.tensor(labels)
    parts = split_indices(labels, splits, seed)
    assert sorted(torch.cat(parts).tolist()) == list(range(len(labels)))
    for value in set(labels.tolist()):
        size = int((labels == value).sum())
        for part, fraction in zip(parts, splits, strict=True):
            # To within one; the rounding of the fractions themselves aside.
            assert abs(int((labels[part] == value).sum()) - size * fraction) <= 1 + 1e-6
        assert (labels[parts[0]] == value).any()


@given(classes=st.integers(1, 30), each=st.integers(3, 40))
def test_the_splits_sizes_keep_to_their_fractions_too(classes, each):
    labels = torch.arange(classes).repeat(each)
    sizes = [len(part) for part in split_indices(labels, (0.6, 0.2, 0.2), 0)]
    # Rounding every class by itself would be off by up to one a class.
    assert np.abs(np.array(sizes) - len(labels) * np.array([0.6, 0.2, 0.2])).max() < 3


@pytest.mark.parametrize(
    "labels",
    [torch.linspace(0, 1, 50), torch.arange(100).view(50, 2), torch.zeros(50, 1, dtype=torch.int64)],
    ids=["regression", "two integers a sample", "a column of integers"],
)
def test_other_labels_are_split_at_random(labels):
    parts = split_indices(labels, (0.5, 0.3, 0.2), 0)
    assert [len(part) for part in parts] == [25, 15, 10]
    assert sorted(torch.cat(parts).tolist()) == list(range(50))


def test_the_seed_decides_and_nothing_else():
    labels = torch.arange(60) % 3
    one, again, other = (split_indices(labels, (0.6, 0.2, 0.2), seed) for seed in (1, 1, 2))
    assert all(torch.equal(left, right) for left, right in zip(one, again, strict=True))
    assert not torch.equal(one[0].sort().values, other[0].sort().values)


def test_every_sample_is_as_likely_in_the_test_split():
    labels = torch.arange(10) % 2
    counts = torch.zeros(10)
    for seed in range(1000):
        counts[split_indices(labels, (0.6, 0.2, 0.2), seed)[2]] += 1
    # Binomial, mean 200, SD 12.6; five SD.
    assert (counts - 200).abs().max() < 63


def test_rows_of_a_split_are_in_random_order():
    train, _, _ = split_indices(torch.arange(100) // 50, (0.6, 0.2, 0.2), 0)
    assert not torch.equal(train, train.sort().values)


def test_a_class_of_one_sample_is_trained_on():
    labels = torch.tensor([0] * 10 + [1])
    for seed in range(20):
        assert 10 in split_indices(labels, (0.1, 0.45, 0.45), seed)[0]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ((0.8, 0.2), "are 2 numbers: give three fractions for train, validation and test"),
        ((0.6, 0.2, 0.3), r"sum to 1\.1: give three fractions"),
        ((0.0, 0.5, 0.5), "train has to be positive"),
        ((1.2, -0.1, -0.1), "none may be negative"),
        ((float("nan"), 0.5, 0.5), "train has to be positive"),
        ((0.5, float("nan"), 0.5), "sum to nan"),
    ],
)
def test_fractions_that_are_none(splits, message):
    with pytest.raises(ModelspaceError, match=message):
        check_fractions(splits)


def test_validation_and_test_may_be_empty():
    assert [len(part) for part in split_indices(torch.arange(7), (1.0, 0.0, 0.0), 0)] == [7, 0, 0]


def test_a_seed_out_of_range():
    with pytest.raises(ModelspaceError, match="seed -3 is out of range"):
        split_indices(torch.arange(7), (0.6, 0.2, 0.2), -3)
