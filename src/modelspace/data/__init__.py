"""Data as plain tensors in three parts, from wherever it is; the order it is shown in; what is wrong with it.

Everything goes through ``load``. Nothing is downloaded and nothing is unpickled.
"""

from modelspace.data.assemble import check_divisible, of_label_columns, of_splits, of_tasks, resplit
from modelspace.data.builtin import digits, digits_7x7, mnist1d
from modelspace.data.check import check_classes, check_data, check_labels
from modelspace.data.dataset import Data, Split
from modelspace.data.mapped import is_mapped
from modelspace.data.noise import noisy_labels
from modelspace.data.order import epoch_indices, permutation
from modelspace.data.randomness import generator
from modelspace.data.sources import load, whole
from modelspace.data.stream import Rows, Streamed, epoch_seed, stream
from modelspace.data.views import COLUMNS, Views, folds_of, views_of

__all__ = [
    "COLUMNS",
    "Data",
    "Rows",
    "Split",
    "Streamed",
    "Views",
    "check_classes",
    "check_data",
    "check_divisible",
    "check_labels",
    "digits",
    "digits_7x7",
    "epoch_indices",
    "epoch_seed",
    "folds_of",
    "generator",
    "is_mapped",
    "load",
    "mnist1d",
    "noisy_labels",
    "of_label_columns",
    "of_splits",
    "of_tasks",
    "permutation",
    "resplit",
    "stream",
    "views_of",
    "whole",
]
