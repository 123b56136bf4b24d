"""A batch is a nest: a tensor, or tuples, lists, dicts, named tuples, dataclasses of nests, to any depth.

Nests are PyTorch's pytrees. Their leaves are tensors whose first dimension counts samples; a path names a leaf as one
would write it, ``['input_ids']`` or ``[0].mask``. What a module is called with follows from the outermost kind: the
parts of a plain tuple or list are positional arguments, those of a dict are keyword arguments, anything else is the
one argument.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Nest = Any  # of tensors
LEFT_OUT = -100  # PyTorch's label for what does not count, such as padding


class WeightedLabels(NamedTuple):
    """Labels of samples of unequal weight.

    Attributes:
        labels: A nest of ``[N, …]``.
        weights: ``[N]``, none negative.
    """

    labels: Nest
    weights: Tensor


class Shared(NamedTuple):
    """Samples of which some are the same: the k-th is that of row ``rows[k]`` of ``of``; ``take`` gives plain ones.

    Attributes:
        rows: ``[N]``, whole numbers.
        of: A nest of ``[rows, …]``.
    """

    rows: Tensor
    of: Nest


def unshared(inputs: Nest) -> Nest:
    """Return what samples that are ``Shared`` are rows of: samples of the same kind, each once."""
    return inputs.of if isinstance(inputs, Shared) else inputs


def unweighted(labels: Nest) -> Nest:
    """Return labels without their weights, where they have some."""
    return labels.labels if isinstance(labels, WeightedLabels) else labels


def named_leaves(nest: Nest) -> list[tuple[str, Any]]:
    """Return every leaf with its path, in order; the path of a nest that is a single leaf is empty.

    Example:
        >>> import torch
        >>> [path for path, _ in named_leaves({"ids": torch.zeros(2), "more": (torch.ones(2), None)})]
        ["['ids']", "['more'][0]"]
    """
    _known(nest)
    leaves, _ = pytree.tree_flatten_with_path(nest)
    return [(pytree.keystr(path), leaf) for path, leaf in leaves if leaf is not None]


def tensors(nest: Nest) -> list[Tensor]:
    """Return the tensors of a nest, in order."""
    if isinstance(nest, Tensor):
        return [nest]
    return [leaf for leaf in pytree.tree_leaves(nest) if isinstance(leaf, Tensor)]


def mapped(function: Callable[[Tensor], Any], nest: Nest) -> Nest:
    """Return the same nest with a function of each tensor in its place; what is no tensor stays."""
    if isinstance(nest, Tensor):
        return function(nest)
    return pytree.tree_map(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, nest)


def samples(nest: Nest) -> int:
    """Return how many samples a nest holds: the length of its first tensor; 0 where it has none."""
    return next((len(tensor) if tensor.ndim else 0 for tensor in tensors(nest)), 0)


def device_of(nest: Nest) -> torch.device:
    """Return where a nest's first tensor is; the CPU where it has none."""
    return next((tensor.device for tensor in tensors(nest)), torch.device("cpu"))


def on(device: torch.device | str, nest: Nest) -> Nest:
    """Return a nest on a device."""
    return mapped(lambda tensor: tensor.to(device), nest)


def take(nest: Nest, index: Any) -> Nest:
    """Return some samples: every tensor at an index or a slice of its first dimension."""
    if isinstance(nest, Tensor):
        return nest[index]
    if isinstance(nest, Shared):
        return take(nest.of, nest.rows[index].long())
    return pytree.tree_map(
        lambda leaf: take(leaf, index) if isinstance(leaf, Tensor | Shared) else leaf,
        nest,
        is_leaf=lambda leaf: isinstance(leaf, Shared),
    )


def axes(nest: Nest, axis: int | None) -> Nest:
    """Return what ``vmap`` is told of a nest: the same axis of every tensor, none of what is no tensor."""
    if axis is None or isinstance(nest, Tensor):
        return axis
    return pytree.tree_map(lambda leaf: axis if isinstance(leaf, Tensor) else None, nest)


def only_tensors(nest: Nest) -> Nest:
    """Return a nest without what is no tensor: caches, None, numbers.

    Whatever has named parts becomes a dict, any sequence a tuple; what has only one tensor left stays a nest.
    """
    if isinstance(nest, Tensor):
        return nest
    if isinstance(nest, Mapping):
        kept = {key: only_tensors(value) for key, value in nest.items()}
        return {key: value for key, value in kept.items() if tensors(value)}
    if dataclasses.is_dataclass(nest) and not isinstance(nest, type):
        return only_tensors({f.name: getattr(nest, f.name) for f in dataclasses.fields(nest)})
    if isinstance(nest, tuple) and hasattr(nest, "_asdict"):
        return only_tensors(nest._asdict())  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(nest, tuple | list):
        return tuple(part for part in map(only_tensors, nest) if tensors(part))
    return ()


def called(module: Callable[..., Any], inputs: Nest) -> Any:
    """Call a module with a batch of inputs: a plain tuple's parts by position, a dict's by keyword, others as one."""
    if isinstance(inputs, Tensor):
        return module(inputs)
    positional, keywords = arguments(inputs)
    return module(*positional, **keywords)


def arguments(inputs: Nest) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and the keyword arguments that a batch of inputs is to a module."""
    if type(inputs) in (tuple, list):
        return tuple(inputs), {}
    if isinstance(inputs, Mapping) and not dataclasses.is_dataclass(inputs):
        return (), dict(inputs)
    return (inputs,), {}


def described(nest: Nest) -> str:
    """Say what one sample is: ``3x7x7 float32``, or of each part, ``ids 12 int64, mask 12 bool``.

    Example:
        >>> import torch
        >>> described({"ids": torch.zeros(2, 12, dtype=torch.int64), "mask": torch.ones(2, 12).bool()})
        'ids 12 int64, mask 12 bool'
    """
    nest = unshared(nest)
    if isinstance(nest, Tensor):
        return kind(nest)
    parts = [(path, leaf) for path, leaf in named_leaves(nest) if isinstance(leaf, Tensor)]
    return ", ".join(f"{spoken(path)} {kind(leaf)}" for path, leaf in parts) or "nothing"


def kind(tensor: Tensor) -> str:
    """Say the shape and type of one sample: ``3x7x7 float32``."""
    shape = "x".join(map(str, tensor.shape[1:])) or "scalar"
    return f"{shape} {str(tensor.dtype).removeprefix('torch.')}"


def spoken(path: str) -> str:
    """Write a path as a reader says it: ``['ids']`` is ``ids``, ``[1].mask`` is ``1.mask``."""
    return path.replace("['", ".").replace("']", "").replace("[", ".").replace("]", "").lstrip(".")


def mapped_together(function: Callable[..., Any], *nests: Nest) -> Nest:
    """Return a nest of what a function makes of the tensors that stand in one place of several nests."""
    if isinstance(nests[0], Tensor):
        return function(*nests)
    return pytree.tree_map(lambda *x: function(*x) if isinstance(x[0], Tensor) else x[0], *nests)


def stacked(nests: Iterable[Nest]) -> Nest:
    """Return several nests of one structure as one, with a new first dimension."""
    return mapped_together(lambda *parts: torch.stack(parts), *nests)


def in_order(parts: Iterable[tuple[np.ndarray, Nest]]) -> Nest:
    """Return what was found for parts of some rows as one nest of all rows, in their order.

    Args:
        parts: The rows of each part, 0 … K−1 in all, and what was found for them, ``[rows, …]`` each.
    """
    rows, nests = zip(*parts, strict=True)
    if len(nests) == 1:
        return nests[0]
    order = torch.from_numpy(np.argsort(np.concatenate(rows)))
    return mapped_together(lambda *x: torch.cat(x)[order.to(x[0].device)], *nests)


def _known(nest: Nest) -> None:
    """Let PyTorch see into the dataclasses of a nest."""
    if dataclasses.is_dataclass(nest) and not isinstance(nest, type):
        register(type(nest))
        for field in dataclasses.fields(nest):
            _known(getattr(nest, field.name))
    elif isinstance(nest, Mapping):
        for value in nest.values():
            _known(value)
    elif isinstance(nest, tuple | list):
        for value in nest:
            _known(value)


@cache
def register(kind: type) -> None:
    """Register a dataclass as a kind of nest, unless PyTorch knows it."""
    if kind not in pytree.SUPPORTED_NODES:
        pytree.register_dataclass(kind)
