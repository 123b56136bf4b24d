"""A map-style data set, item by item, into two tensors."""

from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from modelspace.data.convert import input_tensor, label_tensor
from modelspace.errors import ModelspaceError
from modelspace.progress import progress


def materialise(
    dataset: Any, name: str
) -> tuple[Shaped[Tensor, "sample *shape"], Shaped[Tensor, "sample *target"]]:
    """Every item of a data set, in order, each read once.

    Whatever the items draw at random (augmentation) is drawn once and kept. After two seconds a progress bar
    appears on standard error.

    Args:
        dataset: Has ``__len__`` and ``__getitem__``, whose items are ``(input, label)``.
        name: What errors call it.

    Returns:
        The items' inputs and labels, stacked.

    Raises:
        ModelspaceError: it has no items, an item can't be read or isn't such a pair, or differs from the
            first in shape or dtype.
    """
    count = len(dataset)
    if not count:
        raise ModelspaceError(f"data '{name}' has no items")
    first = _item(dataset, 0, name)
    inputs, labels = (part.new_empty((count, *part.shape)) for part in first)
    with progress(f"reading {count} items of {name}", count, "items") as advance:
        for index in range(count):
            item = first if index == 0 else _item(dataset, index, name)
            for kind, value, expected, store in zip(
                ("input", "label"), item, first, (inputs, labels), strict=True
            ):
                if value.shape != expected.shape or value.dtype != expected.dtype:
                    raise ModelspaceError(
                        f"data '{name}': the {kind} of item {index} is {list(value.shape)} {value.dtype}, "
                        f"that of item 0 {list(expected.shape)} {expected.dtype}: make them "
                        "alike"
                    )
                store[index] = value
            advance(1)
    return inputs, labels


def _item(dataset: Any, index: int, name: str) -> tuple[Tensor, Tensor]:
    try:
        item = dataset[index]
    except Exception as error:
        raise ModelspaceError(
            f"data '{name}': item {index} can't be read: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        size = f" of {len(item)}" if isinstance(item, (tuple, list)) else ""
        raise ModelspaceError(
            f"data '{name}': item {index} is a {type(item).__name__}{size}: expected (input, label)"
        )
    where = f"data '{name}': the {{}} of item {index}"
    return input_tensor(item[0], where.format("input")), label_tensor(item[1], where.format("label"))


def tensors_or_items(
    dataset: Any, name: str
) -> tuple[Shaped[Tensor, "sample *shape"], Shaped[Tensor, "sample *target"]]:
    """As :func:`materialise`, at once where the data set is tensors already."""
    # A subclass may compute its items, so only the class itself is known to be its tensors.
    if type(dataset) is torch.utils.data.TensorDataset and len(dataset.tensors) == 2:
        inputs, labels = dataset.tensors
        return inputs, labels
    return materialise(dataset, name)
