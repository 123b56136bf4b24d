"""A module's forward pass whose failure names the layer, what it received and what it expects."""

import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from modelspace.errors import ModelspaceError, at_line, first_line
from modelspace.trace._calls import Calls, watched_calls


class Attempt(NamedTuple):
    """An operation that was begun and has not ended: its name in PyTorch, and the shapes that it was given."""

    name: str
    shapes: tuple[tuple[int, ...], ...]


class LastOperation(TorchDispatchMode):
    """While entered, know which operation is under way: the one that failed, once one has.

    Attributes:
        attempt: The operation; None between operations.
    """

    def __init__(self):
        super().__init__()
        self.attempt: Attempt | None = None

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.attempt = Attempt(str(func._overloadpacket), shapes_in((args, kwargs or {})))
        result = func(*args, **(kwargs or {}))
        self.attempt = None
        return result


def shapes_in(nest: Any) -> tuple[tuple[int, ...], ...]:
    """The shape of each tensor among an operation's arguments."""
    return tuple(tuple(leaf.shape) for leaf in tree_leaves(nest) if isinstance(leaf, Tensor))


def forward_checked(module: nn.Module, *inputs: Any, **keywords: Any) -> Any:
    """Run a module; if it fails, say in which layer, on what, and what that layer expects.

    Works on real and on meta tensors. It watches every call and every operation, so it is for the first batch,
    not for a training loop.

    Args:
        module: Any module.
        *inputs: A batch.
        **keywords: The forward's keyword arguments.

    Returns:
        What the module returns.

    Raises:
        ModelspaceError: If the forward raises anything. It names the innermost layer that was running, by
            qualified name and type, the shape it received, and what it expects; where that layer is one of
            the user's own, the last layer that had finished, the first line of the error, the operation with the
            shapes it got, and the line of the user's file. The error itself is its cause.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(225, 10))
        >>> forward_checked(net, torch.zeros(1, 1, 10, 10))
        Traceback (most recent call last):
        ...
        modelspace.errors.ModelspaceError: layer 1 (Linear) received [1, 100]: it expects the last ...
    """
    # The inference path of transformers makes nested tensors, which the mode can't look at.
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with LastOperation() as last, watched_calls(module) as calls:
            return forward_explained(module, inputs, keywords, calls, lambda: last.attempt)
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def forward_explained(
    module: nn.Module,
    inputs: tuple[Any, ...],
    keywords: Mapping[str, Any],
    calls: Calls,
    attempt: Callable[[], Attempt | None],
) -> Any:
    """Run a module as `forward_checked` does, where its calls and its last operation are watched already."""
    try:
        return module(*inputs, **keywords)
    except ModelspaceError:
        raise
    except Exception as error:
        raise explained(error, module, (inputs, keywords), calls.finished, attempt()) from error


def explained(
    error: Exception,
    module: nn.Module,
    given: Any,
    finished: Sequence[str] = (),
    attempt: Attempt | None = None,
) -> ModelspaceError:
    """Say in one line where in a module an error arose, on what, and what was expected there.

    Args:
        error: What its forward raised, caught.
        module: It.
        given: What the forward was given.
        finished: The names of the calls that had ended well, where they are known.
        attempt: The operation that failed, where it is known.

    Returns:
        The error, to be raised by the caller.
    """
    call = _failed_call({layer: name for name, layer in module.named_modules()}, error)
    shapes = ", ".join("×".join(map(str, s)) or "a scalar" for s in shapes_in(given))
    what = _explain(module, call, finished, error, attempt)
    return ModelspaceError(f"{what}; the model was given inputs of shape {shapes or '(none)'}")


_Call = tuple[str, nn.Module, list[Tensor]]


def _failed_call(names: Mapping[nn.Module, str], error: Exception) -> _Call | None:
    """The innermost module call that the error came out of, read from its traceback."""
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        local = frame.f_locals
        layer = local.get("self")
        if frame.f_code.co_name == "_call_impl" and isinstance(layer, nn.Module) and layer in names:
            leaves = tree_leaves((local.get("args"), local.get("kwargs")))
            found = (names[layer], layer, [x for x in leaves if isinstance(x, Tensor)])
    return found


def _explain(
    module: nn.Module, call: _Call | None, finished: Sequence[str], error: Exception, attempt: Attempt | None
) -> str:
    reason = first_line(error)
    if not isinstance(error, RuntimeError | ValueError):
        reason = f"{type(error).__name__}: {reason}"
    line = at_line(error)
    if call is None:
        return f"{type(module).__name__} failed: {reason}{line}"
    name, layer, tensors = call
    kind = type(layer).__name__
    label = f"layer {name} ({kind})" if name else f"the layer ({kind})"
    received = f" on {list(tensors[0].shape)}" if tensors else ""
    expected = _expected(layer, tensors[0]) if tensors else None
    if expected is not None:
        return f"{label} received {list(tensors[0].shape)}: it expects {expected}{line}"
    if attempt is not None:
        reason += f" ({attempt.name} of {' and '.join(str(list(s)) for s in attempt.shapes) or 'no tensor'})"
    if name and next(layer.children(), None) is None:
        return f"{label} failed{received}: {reason}{line}"
    where = f"{kind}.forward" if not name else f"{kind}.forward (layer {name})"
    inside = [ended for ended in finished if not name or ended.startswith(f"{name}.")]
    after = f", after {inside[-1]}" if inside else ""
    return f"in {where}{after}: {reason}{line}"


_SPATIAL = {1: "length", 2: "height, width", 3: "depth, height, width"}


def _expected(layer: nn.Module, x: Tensor) -> str | None:
    """What a layer of torch expects of its first input, if that is what it did not get."""
    weight = getattr(layer, "weight", None)
    if isinstance(layer, nn.Embedding):
        if x.dtype.is_floating_point or x.dtype.is_complex:
            return f"integer indices below {layer.num_embeddings}, and their dtype is {x.dtype}"
        if type(x) is Tensor and not x.is_meta and x.numel() and int(x.max()) >= layer.num_embeddings:
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
