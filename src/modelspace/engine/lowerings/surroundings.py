"""What surrounds a lowered forward: parts of PyTorch done otherwise while it runs, opened, or cast.

Each change is the smallest that gives an operation a form in which members can be batched, or its numbers made a
function of the member's seed; after the block everything is as it was.
"""

import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.modules import transformer
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree
from torch.utils import checkpoint

from modelspace.engine.lowerings.batched import Function

Swap = tuple[
    Any, str, Any
]  # a module or class, the name of its attribute, the attribute's value in the block


# Of what is swapped now: what it was before, and what each block has put there.
_LAYERS: dict[tuple[Any, str], list[list[Any]]] = {}


@contextmanager
def swapped(*swaps: Swap) -> Iterator[None]:
    """Within the block, attributes of modules and classes have other values.

    Blocks may end in any order, as those of two threads do: the last to end leaves what was there before the first.
    """
    mine = [(owner, name, [value]) for owner, name, value in swaps]
    try:
        for owner, name, layer in mine:
            _LAYERS.setdefault((owner, name), [[vars(owner)[name]]]).append(layer)
            setattr(owner, name, layer[0])
        yield
    finally:
        for owner, name, layer in mine:
            layers = [each for each in _LAYERS.pop((owner, name), []) if each is not layer]
            if layers:
                setattr(owner, name, layers[-1][0])
            if len(layers) > 1:
                _LAYERS[owner, name] = layers


class _NoCheckpoint:
    @staticmethod
    def apply(function: Function, preserve: bool, *args: Any) -> Any:
        return function(*args)


def _no_checkpoint(*args: Any, **kwargs: Any) -> Iterator[None]:
    yield


ALWAYS: tuple[Swap, ...] = (
    # ``checkpoint(f, …)`` is ``f(…)``, however it was imported. Under ``vmap`` activation checkpoints fail; and their
    # second forward, in the backward, would draw other random numbers and find other parameters in the module. The
    # numbers are the same without, and a shard of small networks needs no checkpoint. (A BatchNorm inside one updates
    # its statistics once a step here, where plain PyTorch does so in both forwards.)
    (checkpoint, "CheckpointFunction", _NoCheckpoint),
    (checkpoint, "_checkpoint_without_reentrant_generator", _no_checkpoint),
    # Distributions made without ``validate_args`` don't validate. A check raises for all members at once, where one
    # has diverged; without it that member's loss is not a number, and it alone is frozen. And some checks ask a
    # tensor for its value, which nothing can under ``vmap``.
    (Distribution, "_validate_args", False),
)
UNDER_VMAP: tuple[Swap, ...] = (
    # Transformers don't read a mask's values to see whether it is causal, which can't be compiled; it is applied
    # either way.
    (transformer, "_detect_is_causal_mask", lambda mask, is_causal=None, size=None: bool(is_causal)),
)


@contextmanager
def without_fast_paths() -> Iterator[None]:
    """Within the block, ``nn.TransformerEncoder`` and its layers take their ordinary path in evaluation too.

    The other is one operation on raw parameters, or turns the batch into a nested tensor: neither has a batched form.
    (And it writes zeros at padded positions, where the ordinary path computes something.)
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def without_hidden_loops() -> Iterator[None]:
    """Within the block, an operation that ``vmap`` has no rule for is an error that names it, not a hidden loop."""
    functorch = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    before = functorch._is_vmap_fallback_enabled()
    functorch._set_vmap_fallback_enabled(False)
    try:
        yield
    finally:
        functorch._set_vmap_fallback_enabled(before)


def custom_functions(one_by_one: Callable[..., Any]) -> Swap:
    """Have custom ``torch.autograd.Function``s without a batching rule run member by member, instead of an error.

    Those are called by ``one_by_one(name, apply, *arguments)``; one that has a ``vmap`` of its own, or
    ``generate_vmap_rule``, is left alone.
    """
    base = torch.autograd.Function
    original = vars(base)["apply"]

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        plain = original.__get__(None, cls)
        ruled = cls.generate_vmap_rule or cls.vmap is not base.vmap
        if ruled or not torch._C._are_functorch_transforms_active():  # pyright: ignore[reportAttributeAccessIssue]
            return plain(*args, **kwargs)
        return one_by_one(cls.__name__, plain, *args, **kwargs)

    return base, "apply", classmethod(apply)


_CHECKS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
_UNCHECKED = {**vars(F), **dict.fromkeys(_CHECKS, lambda *_: False)}


@cache
def opened(function: Function) -> Function | None:
    """Return a function of ``torch.nn.functional`` such that what it calls is lowered too; None for any other.

    A function mode sees ``F.multi_head_attention_forward`` as one call, and while it handles that, not the products,
    softmax and dropout inside. The reason is a check at the head of each such function. An opened function is the
    same code with that check answered by no.
    """
    if not isinstance(function, types.FunctionType):
        return None
    ours = function.__module__ == F.__name__
    if not ours and not function.__qualname__.startswith("boolean_dispatch"):
        return None
    # F.max_pool2d and others are closures over the two functions that they choose from.
    cells = None
    if function.__closure__ is not None:
        contents = [cell.cell_contents for cell in function.__closure__]
        cells = tuple(
            types.CellType(opened(c) or c if isinstance(c, types.FunctionType) else c) for c in contents
        )
    names = _UNCHECKED if ours else function.__globals__
    copy = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__, cells)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


# A class with a forward of its own is left to it.
_PYTORCH_S: frozenset[Any] = frozenset({_BatchNorm.forward, nn.SyncBatchNorm.forward})


def cumulative_norms(module: nn.Module) -> list[_BatchNorm]:
    """Return the layers of a module that need ``averaging``; every other norm is batched as it stands."""
    return [
        layer
        for layer in module.modules()
        if isinstance(layer, _BatchNorm)
        and type(layer).forward in _PYTORCH_S
        and layer.momentum is None
        and layer.num_batches_tracked is not None
    ]


@contextmanager
def averaging(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Within the block, running statistics that are the plain mean over all batches (``momentum=None``) are batched.

        running ← running + (batch − running) / count,  count ← count + 1 before

    PyTorch's own forward of ``cumulative_norms`` reads the count as a Python number, which no member of many has.
    """
    try:
        for layer in norms:
            layer.forward = partial(_averaged, layer)
        yield
    finally:
        for layer in norms:
            vars(layer).pop("forward", None)


def _averaged(layer: _BatchNorm, input: Tensor) -> Tensor:
    mean, variance, count = layer.running_mean, layer.running_var, layer.num_batches_tracked
    tracked = layer.training and layer.track_running_stats
    if not tracked or mean is None or variance is None or count is None:
        return type(layer).forward(layer, input)
    layer._check_input_dim(input)
    count.add_(1)
    # The batch's statistics are what a momentum of 1 leaves in temporaries.
    batch = torch.zeros_like(mean), torch.zeros_like(variance)
    output = F.batch_norm(input, *batch, layer.weight, layer.bias, True, 1.0, layer.eps)
    for running, new in zip((mean, variance), batch, strict=True):
        running.add_((new - running) / count)
    return output


# Mixed precision. ``torch.autocast`` inside ``vmap`` changes numerics (pytorch/pytorch issues 105442, 192617), so the
# inputs are cast explicitly. Source of the lists: PyTorch's "Autocast Op Reference"; both devices' lists of
# operations that need float32 are joined.


def _named(owner: Any, names: str) -> set[Function]:
    return {getattr(owner, name) for name in names.split()}


PRODUCTS: frozenset[Function] = frozenset(
    _named(F, "linear bilinear scaled_dot_product_attention")
    | _named(torch, "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d")
    | _named(torch, "matmul mm bmm mv addmm addmv addbmm baddbmm einsum")
    | _named(Tensor, "matmul mm bmm mv __matmul__ __rmatmul__")
    | _named(torch, "lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell")
)
FLOAT32: frozenset[Function] = frozenset(
    _named(F, "cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss huber_loss binary_cross_entropy")
    | _named(F, "binary_cross_entropy_with_logits kl_div poisson_nll_loss gaussian_nll_loss soft_margin_loss")
    | _named(F, "margin_ranking_loss cosine_similarity softmax log_softmax softplus normalize grid_sample")
    | _named(F, "layer_norm group_norm batch_norm instance_norm")
    | _named(torch, "softmax log_softmax layer_norm group_norm batch_norm instance_norm cdist")
    | _named(torch, "exp log pow norm prod cumsum cumprod logsumexp")
    | _named(Tensor, "softmax log_softmax exp log pow norm prod cumsum")
)
_FLOATING = {torch.float32, torch.bfloat16, torch.float16}


def cast(function: Function, args: Any, kwargs: Any, products: torch.dtype) -> tuple[Any, Any]:
    """Cast the arguments of a call as autocast would, matrix products to the type ``products``."""
    if function in PRODUCTS:
        dtype, among = products, _FLOATING
    elif function in FLOAT32:
        dtype, among = torch.float32, {products}
    else:
        return args, kwargs

    def to(value: Any) -> Any:
        return value.to(dtype) if isinstance(value, Tensor) and value.dtype in among else value

    return pytree.tree_map(to, (args, kwargs))
