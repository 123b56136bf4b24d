"""A map-style data set, item by item, into two tensors."""

from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from modelspace.data.convert import input_tensor, label_tensor
from modelspace.data.randomness import global_randomness_kept, global_state
from modelspace.errors import ModelspaceError, told
from modelspace.progress import progress

_AGAIN, _AGAIN_IF_DRAWN = 16, 256  # items read again, about


def materialise(
    dataset: Any, name: str
) -> tuple[Shaped[Tensor, "sample *shape"], Shaped[Tensor, "sample *target"]]:
    """Every item of a data set, in order, each read once.

    Some items are then read again: a data set whose items are drawn at random (augmentation) would be frozen at its
    first draw, so it is refused. After two seconds a progress bar
    appears on standard error.

    Args:
        dataset: Has ``__len__`` and ``__getitem__``, whose items are ``(input, label)``.
        name: What errors call it.

    Returns:
        The items' inputs and labels, stacked.

    Raises:
        ModelspaceError: it has no items, an item can't be read or isn't such a pair, differs from the
            first in shape or dtype, or is another one when it is read again.
    """
    before = global_state()
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
    # More where a global stream was drawn from: an item that is flipped now and then is often the same.
    again = min(count, _AGAIN if global_state() == before else _AGAIN_IF_DRAWN)
    with global_randomness_kept():
        for index in range(0, count, max(1, count // again)):
            for kind, value, store in zip(
                ("input", "label"), _item(dataset, index, name), (inputs, labels), strict=True
            ):
                if value.shape != store.shape[1:] or not _same(value, store[index]):
                    raise ModelspaceError(
                        f"data '{name}': the {kind} of item {index} is another one when it is read again: "
                        "items drawn at random would be frozen at one draw, validation and test ones too; augment "
                        "in the model's forward in training mode, where each member draws its own, or give "
                        "(inputs, labels) tensors to accept one draw"
                    )
    return inputs, labels


def _same(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _item(dataset: Any, index: int, name: str) -> tuple[Tensor, Tensor]:
    try:
        item = dataset[index]
    except Exception as error:
        raise ModelspaceError(f"data '{name}': item {index} can't be read: {told(error)}") from error
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
    """As ``materialise``, at once where the data set is tensors already."""
    # A subclass may compute its items, so only the class itself is known to be its tensors.
    if type(dataset) is torch.utils.data.TensorDataset and len(dataset.tensors) == 2:
        inputs, labels = dataset.tensors
        return inputs, labels
    return materialise(dataset, name)
