"""A module's forward pass whose failure names the layer, what it received and what it expects."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from modelspace.errors import ModelspaceError


def samples_as(inputs: Shaped[Tensor, "..."], dtype: torch.dtype) -> Shaped[Tensor, "..."]:
    """Samples for parameters of this type: floating-point samples are cast to it, integers stay."""
    return inputs.to(dtype) if inputs.is_floating_point() else inputs


def forward_checked(module: nn.Module, inputs: Shaped[Tensor, "..."]) -> Any:
    """Run a module; if it fails, say in which layer, on what, and what that layer expects.

    Works on real and on meta tensors. It hooks every submodule while it runs, so it is for the first batch,
    not for a training loop.

    Args:
        module: Any module of one input.
        inputs: A batch.

    Returns:
        What the module returns.

    Raises:
        ModelspaceError: If the forward raises anything. It names the innermost layer that was running, by
            qualified name and type, the shape it received, and what it expects; where that layer is one of
            the user's own, the last layer that had finished, and the first line of the error. The error
            itself is its cause.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(225, 10))
        >>> forward_checked(net, torch.zeros(1, 1, 10, 10))
        Traceback (most recent call last):
        ...
        modelspace.errors.ModelspaceError: layer 1 (Linear) received [1, 100]: it expects the last ...
    """
    with _watched(module) as (failures, finished):
        try:
            return module(inputs)
        except ModelspaceError:
            raise
        except Exception as error:
            call = next((call for failure, call in failures if failure is error), None)
            what = _explain(module, call, finished, error)
            shape = "×".join(map(str, inputs.shape)) or "a scalar"
            raise ModelspaceError(f"{what}; the model was given inputs of shape {shape}") from error
        finally:
            failures.clear()


_Call = tuple[str, nn.Module, list[Tensor]]


@contextmanager
def _watched(module: nn.Module) -> Iterator[tuple[list[tuple[BaseException, _Call]], list[str]]]:
    """The calls that raised, innermost first, and the names of those that ended well, in order."""
    failures: list[tuple[BaseException, _Call]] = []
    finished: list[str] = []
    names = {layer: name for name, layer in module.named_modules()}

    def hook(layer: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        # always_call runs this while the exception is being handled, with no output. A call that returns None
        # inside the user's own except clause looks the same; it is then listed under an exception that
        # was caught, which nobody asks about.
        failure = sys.exc_info()[1]
        if output is None and failure is not None:
            tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
            failures.append((failure, (names[layer], layer, tensors)))
        else:
            finished.append(names[layer])

    handles = [layer.register_forward_hook(hook, with_kwargs=True, always_call=True) for layer in names]
    try:
        yield failures, finished
    finally:
        for handle in handles:
            handle.remove()


def _explain(module: nn.Module, call: _Call | None, finished: list[str], error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if not isinstance(error, RuntimeError | ValueError):
        reason = f"{type(error).__name__}: {reason}"
    if call is None:
        return f"{type(module).__name__} failed: {reason}"
    name, layer, tensors = call
    kind = type(layer).__name__
    label = f"layer {name} ({kind})" if name else f"the layer ({kind})"
    received = f" on {list(tensors[0].shape)}" if tensors else ""
    expected = _expected(layer, tensors[0]) if tensors else None
    if expected is not None:
        return f"{label} received {list(tensors[0].shape)}: it expects {expected}"
    if name and next(layer.children(), None) is None:
        return f"{label} failed{received}: {reason}"
    where = f"{kind}.forward" if not name else f"{kind}.forward (layer {name})"
    inside = [ended for ended in finished if not name or ended.startswith(f"{name}.")]
    after = f", after {inside[-1]}" if inside else ""
    return f"in {where}{after}: {reason}"


_SPATIAL = {1: "length", 2: "height, width", 3: "depth, height, width"}


def _expected(layer: nn.Module, x: Tensor) -> str | None:
    """What a layer of torch expects of its first input, if that is what it did not get."""
    weight = getattr(layer, "weight", None)
    if isinstance(layer, nn.Embedding):
        if x.dtype.is_floating_point or x.dtype.is_complex:
            return f"integer indices below {layer.num_embeddings}, and their dtype is {x.dtype}"
        if x.device.type != "meta" and x.numel() and int(x.max()) >= layer.num_embeddings:
            return f"indices below {layer.num_embeddings}, and the largest is {int(x.max())}"
        return None
    if isinstance(weight, Tensor) and x.dtype != weight.dtype:
        return f"dtype {weight.dtype}, that of its weight, and received {x.dtype}: convert one to the other"
    if isinstance(layer, nn.Linear):
        if x.ndim == 0 or x.shape[-1] != layer.in_features:
            got = f", and it is {x.shape[-1]}" if x.ndim else ""
            return f"the last dimension to be {layer.in_features}{got}"
    elif isinstance(layer, nn.modules.conv._ConvNd):
        spatial = len(layer.kernel_size)
        wanted = f"[batch, {layer.in_channels} channels, {_SPATIAL[spatial]}]"
        if x.ndim not in (spatial + 1, spatial + 2):
            return f"{spatial + 2} dimensions, {wanted}, and there are {x.ndim}"
        if x.shape[-spatial - 1] != layer.in_channels:
            return f"{wanted}, and there are {x.shape[-spatial - 1]} channels"
    elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
        if x.ndim < 2 or x.shape[1] != layer.num_features:
            got = f", and there are {x.shape[1]}" if x.ndim > 1 else ""
            return f"{layer.num_features} features in dimension 1{got}"
        if layer.training and x.numel() == x.shape[1]:
            return "more than one value for each feature while training: give it a batch of two or more"
    elif isinstance(layer, nn.LayerNorm):
        normalized = list(layer.normalized_shape)
        if list(x.shape[-len(normalized) :]) != normalized:
            return f"the last dimensions to be {normalized}"
    elif isinstance(layer, nn.GroupNorm):
        if x.ndim < 2 or x.shape[1] != layer.num_channels:
            return f"{layer.num_channels} channels in dimension 1"
    elif isinstance(layer, nn.RNNBase):
        if x.ndim not in (2, 3):
            order = "batch, time" if layer.batch_first else "time, batch"
            return f"[{order}, {layer.input_size} features], and there are {x.ndim} dimensions"
        if x.shape[-1] != layer.input_size:
            return f"the last dimension to be {layer.input_size}, and it is {x.shape[-1]}"
    elif isinstance(layer, nn.MultiheadAttention) and (x.ndim == 0 or x.shape[-1] != layer.embed_dim):
        return f"the last dimension to be {layer.embed_dim}"
    return None
