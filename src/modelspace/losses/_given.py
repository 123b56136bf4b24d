"""Losses that are somebody else's function, the user's or PyTorch's; what a name or a callable stands for."""

import ast
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from modelspace.errors import ModelspaceError, unknown_name
from modelspace.losses._base import LabelKind, Labels, Loss, OutputKind, Reals, prediction
from modelspace.losses._catalogue import CATALOGUE
from modelspace.losses._checks import (
    LEFT_OUT,
    Contract,
    anything,
    class_labels,
    class_maps,
    counts,
    leaves_some_out,
    plus_minus_one,
    probabilities,
    require_class_labels,
    require_same_shape,
    that_count,
    unit_labels,
)

_Function = Callable[..., Tensor]


@dataclass(frozen=True)
class Given(Loss):
    """A function of a batch's outputs and labels to one scalar, usually a mean over the batch.

    Attributes:
        title: What it is called.
        function: Outputs and labels to a scalar; traceable.
        holds: What the values of both must be; runs in ``check`` alone.
        outputs: What the outputs are taken for, if it is known.
        labels: What the labels are, if it is known.
        paired: Whether ``check`` is to refuse shapes that differ, where the function itself would broadcast.
    """

    title: str
    function: Callable[[Tensor, Tensor], Tensor]
    holds: Contract = anything
    outputs: OutputKind | None = None
    labels: LabelKind | None = None
    paired: bool = False

    @property
    def name(self) -> str:
        """What it is called."""
        return self.title

    def __str__(self) -> str:
        return self.title

    def check_values(self, outputs: Labels, labels: Labels) -> None:
        """Refuse what ``holds`` refuses."""
        if self.paired:
            require_same_shape(self.name, outputs, labels)
        self.holds(self.name, outputs, labels)

    @property
    def code(self) -> tuple[Callable[..., Any], ...]:
        """The function."""
        return (self.function,)

    @property
    def left_out(self) -> int | None:
        """PyTorch's ``ignore_index``, of those of its losses that have one."""
        if isinstance(self.function, nn.CrossEntropyLoss | nn.NLLLoss):
            return self.function.ignore_index
        return LEFT_OUT if _plain(self.function) in (F.cross_entropy, F.nll_loss) else None

    def sums(self, outputs: Reals, labels: Labels) -> tuple[Reals, Labels]:
        """Compute the value, which counts once; of PyTorch's losses of classes Σ w_y ℓ and Σ w_y."""
        function = self.function
        counted = None if labels.is_floating_point() else that_count(labels, self.left_out)
        if counted is None:
            value = self(outputs, labels)
            return value, value.new_ones(())
        summed: Callable[..., Tensor] = partial(_plain(function), reduction="sum")
        weight = None
        if isinstance(function, nn.CrossEntropyLoss | nn.NLLLoss):
            summed, weight = copy(function), function.weight
            summed.reduction = "sum"
        value = summed(outputs, labels.long())
        if weight is None:
            return value, counted.sum()
        return value, (weight[labels.long().masked_fill(~counted, 0)] * counted).sum()

    @property
    def takes_one(self) -> bool:
        """Whether it is PyTorch's own; a function of the user's gets the outputs as they are."""
        return self.outputs is not None

    def is_sample_mean(self, labels: Labels) -> bool:
        """Tell so of PyTorch's own as they come: without weights, with the mean as their reduction."""
        known = _module_is_mean if isinstance(self.function, nn.Module) else _function_is_mean
        return known(self.function, labels)

    def __call__(self, outputs: Reals, labels: Labels, *, reduction: str = "mean") -> Reals:
        """Compute the loss of a batch, as the function gives it.

        Args:
            outputs: What the model returned.
            labels: What it should have returned.
            reduction: ``"mean"``: the function has made it already.

        Returns:
            A tensor of no dimensions.

        Raises:
            ModelspaceError: If the function returned anything else, or another reduction is asked for.
        """
        if reduction != "mean":
            raise unknown_name("reduction of a function that returns its mean", reduction, ("mean",))
        value = self.function(prediction(outputs) if self.takes_one else outputs, labels)
        if not isinstance(value, Tensor):
            raise ModelspaceError(
                f"loss '{self.name}' returned a {type(value).__name__}: it must return a scalar tensor"
            )
        if value.ndim:
            raise ModelspaceError(
                f"loss '{self.name}' returned a tensor of shape {list(value.shape)}: it must return "
                "a scalar, the mean over the batch (reduction='mean', or .mean() at the end)"
            )
        return value


def _paired(name: str, function: _Function, outputs: Reals, labels: Labels) -> Reals:
    require_same_shape(name, outputs, labels)
    return function(outputs, labels.to(outputs.dtype))


def _by_class(name: str, function: _Function, outputs: Reals, labels: Labels) -> Reals:
    require_class_labels(name, outputs, labels)
    return function(outputs, labels.long())


def _class_sets(name: str, function: _Function, outputs: Reals, labels: Labels) -> Reals:
    require_same_shape(name, outputs, labels)
    return function(outputs, labels.long())


def _log_probabilities(name: str, outputs: Labels, labels: Labels) -> None:
    """Refuse outputs above 0, up to rounding."""
    largest = outputs.max().item()
    if largest > 1e-3:
        raise ModelspaceError(
            f"{name} expects log-probabilities, which are at most 0, and the largest output is {largest:g}: "
            "end the model in log_softmax, or use 'cross_entropy' on logits"
        )


def _log_probabilities_and_classes(name: str, outputs: Labels, labels: Labels) -> None:
    class_maps(name, outputs, labels)
    _log_probabilities(name, outputs, labels)


# PyTorch's losses of outputs and labels and nothing more: the module, how the function pairs the two, what the values
# must be, and what both are. kl_div takes "batchmean", the divergence's mean over the batch: its own "mean" divides
# by the classes too, and torch warns about it.
_TORCH: dict[str, tuple[type[nn.Module], Callable[..., Tensor], Contract, OutputKind, LabelKind]] = {
    "mse_loss": (nn.MSELoss, _paired, anything, "real", "real"),
    "l1_loss": (nn.L1Loss, _paired, anything, "real", "real"),
    "smooth_l1_loss": (nn.SmoothL1Loss, _paired, anything, "real", "real"),
    "huber_loss": (nn.HuberLoss, _paired, anything, "real", "real"),
    "binary_cross_entropy": (nn.BCELoss, _paired, probabilities, "probability", "unit"),
    "binary_cross_entropy_with_logits": (nn.BCEWithLogitsLoss, _paired, unit_labels, "score", "unit"),
    "soft_margin_loss": (nn.SoftMarginLoss, _paired, plus_minus_one, "score", "sign"),
    "hinge_embedding_loss": (nn.HingeEmbeddingLoss, _paired, plus_minus_one, "positive", "sign"),
    "multilabel_soft_margin_loss": (nn.MultiLabelSoftMarginLoss, _paired, unit_labels, "score", "multi-hot"),
    "poisson_nll_loss": (nn.PoissonNLLLoss, _paired, counts, "log-rate", "count"),
    "kl_div": (nn.KLDivLoss, _paired, _log_probabilities, "log-probability", "distribution"),
    "nll_loss": (nn.NLLLoss, _by_class, _log_probabilities_and_classes, "log-probability", "class"),
    "multi_margin_loss": (nn.MultiMarginLoss, _by_class, class_labels, "logits", "class"),
    "multilabel_margin_loss": (nn.MultiLabelMarginLoss, _class_sets, anything, "logits", "class"),
}
_FUNCTIONS = {name: getattr(F, name) for name in _TORCH}
_NAMES = {module: name for name, (module, *_) in _TORCH.items()} | {nn.CrossEntropyLoss: "cross_entropy"}


def _by_torch_s_name(name: str) -> Given:
    _, pair, contract, outputs, labels = _TORCH[name]
    function = partial(F.kl_div, reduction="batchmean") if name == "kl_div" else _FUNCTIONS[name]
    return Given(name, partial(pair, name, function), contract, outputs, labels)


FUNCTIONAL = {name: _by_torch_s_name(name) for name in _TORCH}


def resolve(loss: str | Loss | Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """Give the loss that a name or a callable stands for.

    Args:
        loss: A name of the catalogue (``"cross_entropy"``), or of a loss of ``torch.nn.functional`` that
            takes outputs and labels only, with or without its ``_loss`` (``"mse"``, ``"smooth_l1_loss"``); a name of
            the catalogue with what is not at its default, ``"focal(gamma=1, weight=balanced)"``, as ``str(loss)`` has
            it; or any callable of outputs and labels, an ``nn.Module`` such as ``nn.CrossEntropyLoss()`` included.

    Returns:
        The loss. A torch loss by name refuses to broadcast and gives its mean (``kl_div``: over the batch);
        a callable is taken as it is, and must return a scalar.

    Raises:
        ModelspaceError: If the name is not known, or ``loss`` is neither a name nor a callable.

    Example:
        >>> resolve("mse").name, resolve("cross_entropy").name
        ('mse_loss', 'cross_entropy')
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str) and "(" in loss:
        return _with_fields(loss)
    if isinstance(loss, str):
        for candidate in (loss, loss.removesuffix("_loss"), f"{loss}_loss"):
            for table in (CATALOGUE, FUNCTIONAL):
                if candidate in table:
                    return table[candidate]
        raise unknown_name("loss", loss, (*CATALOGUE, *FUNCTIONAL))
    if isinstance(loss, type) and issubclass(loss, nn.Module | Loss):
        raise ModelspaceError(f"loss is the class {loss.__name__}: give an instance of it, {loss.__name__}()")
    if isinstance(loss, nn.Module):
        return _of_module(loss)
    if callable(loss):
        return Given(getattr(loss, "__name__", type(loss).__name__), loss)
    raise ModelspaceError(
        f"loss is a {type(loss).__name__}: give a name such as 'cross_entropy', "
        "or a function of outputs and labels"
    )


def _with_fields(text: str) -> Loss:
    """A loss of the catalogue with its fields: ``cross_entropy(weight=[1, 2], ignore_index=0)``."""
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError
        values = {
            str(each.arg): each.value.id if isinstance(each.value, ast.Name) else ast.literal_eval(each.value)
            for each in call.keywords
        }
    except (SyntaxError, ValueError):
        raise ModelspaceError(
            f"loss {text!r}: give a name with values by their names, such as 'focal(gamma=1, weight=balanced)'"
        ) from None
    loss = resolve(call.func.id)
    known = [each.name for each in fields(loss) if each.init] if loss.name in CATALOGUE else []  # pyright: ignore
    for name in values:
        if name not in known:
            raise unknown_name(f"field of the loss {loss.name}", name, known)
    return replace(loss, **values)  # pyright: ignore[reportArgumentType]


def _of_module(module: nn.Module) -> Given:
    """Take a loss module as it is, with what is known of PyTorch's own: what both sides are, that none broadcasts."""
    kind, name = type(module).__name__, _NAMES.get(type(module))
    if name is None:
        return Given(kind, module)
    if name == "cross_entropy":
        return Given(kind, module, outputs="logits", labels="class")
    _, pair, holds, outputs, labels = _TORCH[name]
    paired = pair is _paired
    return Given(kind, module, holds if paired else anything, outputs, labels, paired)


def _module_is_mean(module: Any, labels: Tensor) -> bool:
    hooked = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    weighted = [*module.parameters(), *module.buffers()]
    if type(module) not in _NAMES or hooked or weighted:
        return False
    ignored = getattr(module, "ignore_index", None)
    return module.reduction in ("mean", "batchmean") and not leaves_some_out(labels, ignored)


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """PyTorch's function, where ours by its name makes something of the labels first."""
    if isinstance(function, partial) and function.func in (_paired, _by_class, _class_sets):
        return function.args[1]
    return function


def _function_is_mean(function: Callable[..., Any], labels: Tensor) -> bool:
    function = _plain(function)
    if isinstance(function, partial) and not function.args and set(function.keywords) <= {"reduction"}:
        if function.keywords.get("reduction", "mean") not in ("mean", "batchmean"):
            return False
        function = function.func
    leaves_out = function is F.cross_entropy or function is F.nll_loss
    known = any(function is each for each in (F.cross_entropy, *_FUNCTIONS.values()))
    return known and not (leaves_out and leaves_some_out(labels))
