import pytest
import torch

from modelspace.data import Data, Split, check_data, check_labels, load
from modelspace.errors import ModelspaceError


def good(samples=6):
    return Split(torch.ones(samples, 2), torch.arange(samples) % 3)


def test_good_data_passes():
    check_data(Data("good", good(), good(0), good(2)))


def test_the_rows_that_are_not_finite_are_named():
    bad = good(20)
    bad.inputs[[3, 5, 6, 7, 8, 19], 1] = float("nan")
    with pytest.raises(
        ModelspaceError,
        match=r"data 'd': 6 of 20 rows \(3, 5, 6, 7, 8, …\) of the inputs of the validation split "
        "hold NaN or Inf: leave these rows out",
    ):
        check_data(Data("d", good(), bad, good()))


def test_infinite_regression_labels():
    labels = torch.zeros(6)
    labels[4] = -float("inf")
    with pytest.raises(
        ModelspaceError, match=r"1 of 6 rows \(4\) of the labels of the train split hold NaN or Inf"
    ):
        check_data(Data("d", Split(torch.ones(6, 2), labels), *[Split(torch.ones(0, 2), torch.zeros(0))] * 2))


def test_negative_classes():
    bad = Split(torch.ones(3, 2), torch.tensor([0, -2, -1]))
    with pytest.raises(
        ModelspaceError, match=r"2 of 3 rows \(1, 2\) of the labels of the test split are negative "
    ):
        check_data(Data("d", good(), good(), bad))


def test_negative_integers_that_are_no_classes_pass():
    parts = [Split(torch.ones(3, 2), torch.full((3, 4), -100)) for _ in range(3)]
    check_data(Data("d", *parts))


def test_nothing_to_train_on():
    with pytest.raises(ModelspaceError, match="the train split is empty: there is nothing to fit"):
        check_data(Data("d", good(0), good(), good()))


def test_splits_of_different_shapes_or_dtypes():
    wide = Split(torch.ones(3, 5), torch.arange(3))
    double = Split(torch.ones(3, 2, dtype=torch.float64), torch.arange(3))
    with pytest.raises(
        ModelspaceError, match=r"one of the inputs of the test split is \[5\] torch.float32, of the t"
    ):
        check_data(Data("d", good(), good(), wide))
    with pytest.raises(
        ModelspaceError, match=r"the validation split is \[2\] torch.float64, of the train split \[2\]"
    ):
        check_data(Data("d", good(), double, good()))


def test_several_problems_are_reported_at_once():
    bad = Split(torch.full((3, 2), float("inf")), torch.tensor([-1, 0, -2]))
    with pytest.raises(
        ModelspaceError, match=r"3 of 3 rows.*hold NaN.*; 2 of 3 rows \(0, 2\).*negative.*; the train spl"
    ):
        check_data(Data("d", good(0), good(), bad))


def test_as_many_labels_as_inputs():
    with pytest.raises(
        ModelspaceError, match=r"the data has 5 inputs \[5, 2\] but 4 labels \[4\]: one label a sample"
    ):
        load((torch.ones(5, 2), torch.arange(4)))


def test_integer_inputs_are_never_nan():
    check_data(Data("d", *[Split(torch.ones(4, 7, dtype=torch.int64), torch.arange(4))] * 3))


def test_labels_within_the_outputs_pass():
    check_labels(torch.tensor([0, 9, 3]), classes=10)
    check_labels(torch.tensor([[0, 9], [3, 1]]), classes=10)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [10, 14, 3] + [11] * 10,
            r"labels out of range: 12 labels are ≥ 10 \(largest 14\), but the model has 10 outputs: give",
        ),
        ([10], r"1 label is ≥ 10 \(largest 10\)"),
        ([0, -1], r"1 label is negative \(smallest -1\)"),
        ([-1, 12], r"≥ 10 .*; 1 label is negative"),
    ],
)
def test_labels_without_an_output(labels, message):
    with pytest.raises(ModelspaceError, match=message):
        check_labels(torch.tensor(labels), classes=10)
