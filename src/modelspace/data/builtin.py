"""Data sets that need no download: two views of scikit-learn's digits, and MNIST-1D."""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from modelspace.data.assemble import carve
from modelspace.data.dataset import Data
from modelspace.data.randomness import global_randomness_kept
from modelspace.data.splits import check_fractions

DEFAULT_SPLITS = (0.6, 0.2, 0.2)


def digits(seed: int = 0, splits: Iterable[float] = DEFAULT_SPLITS) -> Data:
    """Handwritten digits of 8×8 pixels: 1797 samples, 10 classes.

    Args:
        seed: Of the split, 0 … 2⁶³ − 1.
        splits: Fractions of train, validation and test.

    Returns:
        Inputs float32 ``[N, 1, 8, 8]`` from 0 (paper) to 1 (ink), labels 0 … 9.

    Raises:
        ModelspaceError: ``seed`` or ``splits`` are out of range.

    Source: ``sklearn.datasets.load_digits``, the test set of UCI's 'Optical Recognition of
    Handwritten Digits'.

    >>> digits().input_shape
    (1, 8, 8)
    """
    images, labels = _digits()
    return carve({"train": (images.unsqueeze(1), labels)}, splits=splits, seed=seed, name="digits")


def digits_7x7(seed: int = 0, splits: Iterable[float] = DEFAULT_SPLITS) -> Data:
    """The digits as three channels of 7×7: what every 2×2 window of the 8×8 image holds.

    For a window with the pixels ``a b`` above ``c d``:
    mean (a + b + c + d) / 4, horizontal difference (b + d) / 2 − (a + c) / 2, vertical difference
    (c + d) / 2 − (a + b) / 2.

    Args:
        seed: Of the split, 0 … 2⁶³ − 1.
        splits: Fractions of train, validation and test.

    Returns:
        Inputs float32 ``[N, 3, 7, 7]``: the mean in 0 … 1, the differences in −1 … 1; labels 0 … 9.

    Raises:
        ModelspaceError: ``seed`` or ``splits`` are out of range.

    Source: as ``digits``; same seed, same rows in the same splits.

    >>> digits_7x7().input_shape
    (3, 7, 7)
    """
    images, labels = _digits()
    a, b = images[:, :-1, :-1], images[:, :-1, 1:]
    c, d = images[:, 1:, :-1], images[:, 1:, 1:]
    channels = (a + b + c + d) / 4, (b + d) / 2 - (a + c) / 2, (c + d) / 2 - (a + b) / 2
    return carve(
        {"train": (torch.stack(channels, dim=1), labels)}, splits=splits, seed=seed, name="digits-7x7"
    )


def mnist1d(seed: int = 0, splits: Iterable[float] = DEFAULT_SPLITS) -> Data:
    """MNIST-1D: 5000 signals of 40 points, 10 classes; small, yet it tells architectures apart.

    Generated in a second by the package ``mnist1d`` with its own arguments and its own seed 42, so the
    samples are always the same. The test split is the package's own: the last of its samples, whatever
    ``seed``; at the default 0.2, the 1000 samples of its ``x_test``. ``seed`` divides the rest into train and
    validation.

    Args:
        seed: Of the division into train and validation, 0 … 2⁶³ − 1.
        splits: Fractions of train, validation and test.

    Returns:
        Inputs float32 ``[N, 40]``, standardised over all samples together; labels 0 … 9.

    Raises:
        ModelspaceError: ``seed`` or ``splits`` are out of range.

    Source: Greydanus and Kobak, 'Scaling Down Deep Learning with MNIST-1D', 2020 (arXiv 2011.14439).

    >>> mnist1d()
    Data('mnist1d': 3000 train, 1000 validation, 1000 test; inputs 40 float32, 10 classes)
    """
    fractions = check_fractions(splits)
    with global_randomness_kept():
        # Imported here: it pulls in matplotlib, a second that no other data set should cost.
        from mnist1d.data import get_dataset_args, make_dataset

        arguments = get_dataset_args()
        vars(arguments).update(train_split=1 - fractions[2])
        made = make_dataset(arguments)
    # float32 whatever the default dtype, as the other built-in data sets.
    tensors = {
        part: (torch.from_numpy(made[f"x{end}"]).float(), torch.from_numpy(made[f"y{end}"]))
        for part, end in (("train", ""), ("test", "_test"))
    }
    return carve(tensors, splits=fractions, seed=seed, name="mnist1d")


BUILTIN: dict[str, Callable[[int, Iterable[float]], Data]] = {
    "digits": digits,
    "digits-7x7": digits_7x7,
    "mnist1d": mnist1d,
}


def _digits() -> tuple[Float[Tensor, "sample 8 8"], Int64[Tensor, "sample"]]:
    # Imported here: scikit-learn takes most of a second, and only these two data sets need it.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return torch.from_numpy(bunch.images / 16).float(), torch.from_numpy(bunch.target)  # pyright: ignore
