"""A map-style data set, item by item, into tensors."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from modelspace.data.convert import split_of
from modelspace.data.dataset import Split
from modelspace.data.randomness import global_randomness_kept, global_state
from modelspace.errors import ModelspaceError, told
from modelspace.memory import free_bytes
from modelspace.nest import mapped, named_leaves, spoken
from modelspace.progress import progress
from modelspace.show import bytes_text

_AGAIN, _AGAIN_IF_DRAWN = 16, 256  # items read again, about

Leaves = list[tuple[str, Tensor]]


def materialise(dataset: Any, name: str, collate: Callable[[list[Any]], Any] | None = None) -> Split:
    """Every item of a data set, in order, each read once.

    Some items are then read again: a data set whose items are drawn at random (augmentation) would be frozen at its
    first draw, so it is refused. After two seconds a progress bar
    appears on standard error.

    Args:
        dataset: Has ``__len__`` and ``__getitem__``, whose items are ``(input, label)`` or another nest, as
            ``modelspace.data.load`` takes it apart.
        name: What errors call it.
        collate: Makes one batch of a list of items, as a ``DataLoader``'s ``collate_fn``; it is called once, with
            all.

    Returns:
        The items, stacked.

    Raises:
        ModelspaceError: it has no items, memory has no room for them, an item can't be read or isn't a nest of
            tensors, differs from the first in parts, shape or dtype, or is another one when it is read again.
    """
    before = global_state()
    count = len(dataset)
    if not count:
        raise ModelspaceError(f"data '{name}' has no items")
    if collate is not None:
        return _collated(dataset, count, name, collate)
    first = _item(dataset, 0, name)
    size, free = count * sum(value.nbytes for _, value in _leaves(first)), free_bytes(torch.device("cpu"))
    if size > free:
        raise ModelspaceError(
            f"data '{name}': its {count:,} items take {bytes_text(size)}, and {bytes_text(free)} are free: "
            "modelspace.data.stream(loader) trains on a DataLoader of it, of which only batches are in memory"
        )
    inputs, labels = (
        mapped(lambda part: part.new_empty((count, *part.shape)), nest)
        for nest in (first.inputs, first.labels)
    )
    store = Split(inputs, labels, first.form)
    stored, expected = _leaves(store), _leaves(first)
    with progress(f"reading {count} items of {name}", count, "items") as advance:
        for index in range(count):
            item = _leaves(first if index == 0 else _item(dataset, index, name))
            _check_alike(item, expected, index, name)
            for (_, value), (_, whole) in zip(item, stored, strict=True):
                whole[index] = value
            advance(1)
    # More where a global stream was drawn from: an item that is flipped now and then is often the same.
    again = min(count, _AGAIN if global_state() == before else _AGAIN_IF_DRAWN)
    with global_randomness_kept():
        for index in range(0, count, max(1, count // again)):
            for (kind, value), (_, whole) in zip(_leaves(_item(dataset, index, name)), stored, strict=True):
                if value.shape != whole.shape[1:] or not _same(value, whole[index]):
                    raise ModelspaceError(
                        f"data '{name}': the {kind} of item {index} is another one when it is read again: "
                        "items drawn at random would be frozen at one draw, validation and test ones too; augment "
                        "in the model's forward in training mode, where each member draws its own, or give "
                        "(inputs, labels) tensors to accept one draw"
                    )
    return store


def _collated(dataset: Any, count: int, name: str, collate: Callable[[list[Any]], Any]) -> Split:
    """All items as one batch of a collate function: what it pads, it pads to the longest of all."""
    items = []
    with progress(f"reading {count} items of {name}", count, "items") as advance:
        for index in range(count):
            items.append(_read(dataset, index, name))
            advance(1)
    try:
        return split_of(plain(collate(items)), f"data '{name}': inputs", f"data '{name}': labels")
    except ModelspaceError:
        raise
    except Exception as error:
        raise ModelspaceError(
            f"data '{name}': its collate function fails on all {count} items: {told(error)}"
        ) from error


def plain(batch: Any) -> Any:
    """Return a batch of a class of its own that is a dict (transformers' ``BatchEncoding``) as that dict."""
    data = getattr(batch, "data", None)
    return data if isinstance(data, dict) and not isinstance(batch, Tensor) else batch


def _check_alike(item: Leaves, first: Leaves, index: int, name: str) -> None:
    if [kind for kind, _ in item] != [kind for kind, _ in first]:
        parts = [", ".join(kind for kind, _ in leaves) for leaves in (item, first)]
        raise ModelspaceError(
            f"data '{name}': item {index} is {parts[0]}, item 0 {parts[1]}: make them alike"
        )
    for (kind, value), (_, expected) in zip(item, first, strict=True):
        if value.shape != expected.shape or value.dtype != expected.dtype:
            raise ModelspaceError(
                f"data '{name}': the {kind} of item {index} is {list(value.shape)} {value.dtype}, "
                f"that of item 0 {list(expected.shape)} {expected.dtype}: make them alike, or give a DataLoader "
                "whose "
                "collate_fn pads them"
            )


def _same(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _leaves(item: Split) -> Leaves:
    """The tensors of an item and what they are called: ``input``, ``label``, ``input 'mask'``."""
    return [
        (f"{kind} '{spoken(path)}'" if path else kind, value)
        for kind, nest in (("input", item.inputs), ("label", item.labels))
        for path, value in named_leaves(nest)
    ]


def _read(dataset: Any, index: int, name: str) -> Any:
    try:
        return dataset[index]
    except Exception as error:
        raise ModelspaceError(f"data '{name}': item {index} can't be read: {told(error)}") from error


def _item(dataset: Any, index: int, name: str) -> Split:
    item = plain(_read(dataset, index, name))
    return split_of(item, *(f"data '{name}': the {kind} of item {index}" for kind in ("input", "label")))


def tensors_or_items(dataset: Any, name: str, collate: Callable[[list[Any]], Any] | None = None) -> Split:
    """As ``materialise``, at once where the data set is tensors already."""
    # A subclass may compute its items, so only the class itself is known to be its tensors.
    if type(dataset) is torch.utils.data.TensorDataset and collate is None:
        parts = dataset.tensors
        return split_of(parts, f"data '{name}': inputs", f"data '{name}': labels")
    return materialise(dataset, name, collate)
