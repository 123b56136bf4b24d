from dataclasses import FrozenInstanceError

import pytest
import torch

from modelspace.data import Data, Split


def data(labels, name="toy"):
    parts = [Split(torch.zeros(len(part), 3, 7, 7), torch.tensor(part)) for part in labels]
    return Data(name, *parts)


def test_input_shape_and_length():
    made = data([[0, 1, 2], [0], [1, 1]])
    assert made.input_shape == (3, 7, 7)
    assert [len(split) for split in made.splits.values()] == [3, 1, 2]
    assert list(made.splits) == ["train", "validation", "test"]


def test_classes_are_counted_over_all_splits():
    assert data([[0, 1], [0], [6]]).classes == 7
    assert data([[0, 1], [4], [1]]).classes == 5


@pytest.mark.parametrize("labels", [[[0.5], [1.0], [2.0]], [[[0, 1]], [[1, 1]], [[2, 0]]]])
def test_other_labels_have_no_classes(labels):
    assert data(labels).classes is None


def test_empty_splits_count_for_nothing():
    empty = Split(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    assert Data("d", Split(torch.zeros(2, 3), torch.tensor([0, 3])), empty, empty).classes == 4
    assert Data("d", empty, empty, empty).classes is None


def test_records_are_frozen_and_compare_by_identity():
    made = data([[0], [0], [0]])
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'name'"):
        made.name = "other"
    assert made == made
    assert made != data([[0], [0], [0]])


def test_repr_is_one_line():
    assert repr(data([[0, 1, 2], [0], [1, 1]])) == (
        "Data('toy': 3 train, 1 validation, 2 test; inputs 3x7x7 float32, 3 classes)"
    )
    assert repr(data([[0.5], [1.0], [2.0]])).endswith("labels scalar float32)")
    assert (
        repr(Split(torch.zeros(2, 4), torch.tensor([0, 1])))
        == "Split(2 samples: inputs 4 float32, labels scalar int64)"
    )


def test_html_is_escaped():
    html = data([[0], [0], [0]], name="<script>")._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "3x7x7" in html
