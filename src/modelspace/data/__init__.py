"""Data as plain tensors in three parts, from wherever it is; the order it is shown in; what is wrong with it.

Everything goes through ``load``. Nothing is downloaded and nothing is unpickled.
"""

from modelspace.data.assemble import of_splits
from modelspace.data.builtin import digits, digits_7x7, mnist1d
from modelspace.data.check import check_data, check_labels
from modelspace.data.dataset import Data, Split
from modelspace.data.noise import noisy_labels
from modelspace.data.order import epoch_indices, permutation
from modelspace.data.sources import load

__all__ = [
    "Data",
    "Split",
    "check_data",
    "check_labels",
    "digits",
    "digits_7x7",
    "epoch_indices",
    "load",
    "mnist1d",
    "noisy_labels",
    "of_splits",
    "permutation",
]
