import random

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import conv2d

from modelspace.data import digits, digits_7x7, load, mnist1d
from modelspace.errors import ModelspaceError


def everything(data):
    inputs = torch.cat([split.inputs for split in data.splits.values()])
    labels = torch.cat([split.labels for split in data.splits.values()])
    return inputs, labels


def sorted_rows(inputs, labels):
    """The samples as a multiset, so that two orders of the same compare equal."""
    rows = np.concatenate([labels.numpy()[:, None], inputs.flatten(1).numpy()], axis=1, dtype=np.float64)
    return rows[np.lexsort(rows.T)]


def test_digits_are_scikit_learns():
    images, labels = load_digits(return_X_y=True)
    data = digits()
    inputs, _ = everything(data)
    assert inputs.shape == (1797, 1, 8, 8)
    assert inputs.dtype == torch.float32
    assert data.classes == 10
    expected = sorted_rows(torch.from_numpy((images / 16).astype(np.float32)), torch.from_numpy(labels))
    np.testing.assert_array_equal(sorted_rows(*everything(data)), expected)


def test_digits_7x7_are_the_windows_of_the_digits():
    images = digits(seed=4).train.inputs
    windows = digits_7x7(seed=4).train.inputs
    assert windows.dtype == torch.float32
    kernels = torch.tensor(
        [[[[1, 1], [1, 1]]], [[[-2, 2], [-2, 2]]], [[[-2, -2], [2, 2]]]], dtype=torch.float32
    )
    # Multiples of 1/64 below 1: exact in float32, whatever the order of the sum.
    assert torch.equal(windows, conv2d(images, kernels / 4))


def test_digits_7x7_by_plain_loops_over_scikit_learns_images():
    images, labels = load_digits().images, load_digits().target
    expected = np.empty((1797, 3, 7, 7))
    for row in range(7):
        for column in range(7):
            window = images[:, row : row + 2, column : column + 2] / 16
            expected[:, 0, row, column] = window.mean(axis=(1, 2))
            expected[:, 1, row, column] = window[:, :, 1].mean(axis=1) - window[:, :, 0].mean(axis=1)
            expected[:, 2, row, column] = window[:, 1, :].mean(axis=1) - window[:, 0, :].mean(axis=1)
    found = sorted_rows(*everything(digits_7x7()))
    np.testing.assert_array_equal(found, sorted_rows(torch.from_numpy(expected), torch.from_numpy(labels)))


def test_an_edge_has_the_sign_of_its_dark_side():
    data = digits_7x7()
    _, horizontal, vertical = data.train.inputs.unbind(dim=1)
    # Paper surrounds the digits: from left to right and from top to bottom the ink rises first, then falls.
    assert horizontal[:, :, :3].mean() > 0 > horizontal[:, :, 4:].mean()
    assert vertical[:, 0].mean() > 0 > vertical[:, 6].mean()


def test_mnist1d_is_what_the_package_makes():
    from mnist1d.data import get_dataset_args, make_dataset

    state = random.getstate(), np.random.get_state()  # noqa: NPY002
    made = make_dataset(get_dataset_args())
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002

    data = mnist1d()
    np.testing.assert_array_equal(data.test.inputs.numpy(), made["x_test"].astype(np.float32))
    np.testing.assert_array_equal(data.test.labels.numpy(), made["y_test"])
    assert [len(split) for split in data.splits.values()] == [3000, 1000, 1000]
    assert data.input_shape == (40,)
    assert data.train.inputs.dtype == torch.float32
    rest = [
        torch.cat([getattr(data.train, kind), getattr(data.validation, kind)])
        for kind in ("inputs", "labels")
    ]
    expected = sorted_rows(torch.from_numpy(made["x"].astype(np.float32)), torch.from_numpy(made["y"]))
    np.testing.assert_array_equal(sorted_rows(*rest), expected)

    other = mnist1d(seed=1, splits=(0.7, 0.1, 0.2))
    assert torch.equal(other.test.inputs, data.test.inputs)
    assert [len(split) for split in other.splits.values()] == [3500, 500, 1000]


def test_global_streams_are_left_alone():
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002
    torch.manual_seed(7)
    expected = random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002
    torch.manual_seed(7)
    mnist1d()
    digits()
    assert (random.random(), np.random.random(), torch.rand(1).item()) == expected  # noqa: NPY002


def test_the_default_dtype_does_not_change_the_built_in_data():
    torch.set_default_dtype(torch.float64)
    try:
        assert digits_7x7().train.inputs.dtype == torch.float32
        assert mnist1d().train.inputs.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("text", "function"), [("digits", digits), ("digits-7x7", digits_7x7), ("digits_7x7", digits_7x7)]
)
def test_load_knows_them_by_name(text, function):
    named, called = load(text, seed=3, splits=(0.5, 0.25, 0.25)), function(3, (0.5, 0.25, 0.25))
    assert named.name == called.name
    assert torch.equal(named.validation.inputs, called.validation.inputs)


def test_an_unknown_name_says_what_is_known_and_what_else_is_accepted():
    with pytest.raises(
        ModelspaceError,
        match=r"unknown data set 'digit-7x7': did you mean 'digits-7x7'\? Known: digits, digits-7x7, "
        r"mnist1d; or give a \.npz file or file\.py:function",
    ):
        load("digit-7x7")
