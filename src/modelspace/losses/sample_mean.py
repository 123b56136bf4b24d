"""Which losses are means over samples: of those alone the value of a split is the mean of its pieces' values."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor, nn

from modelspace.losses.catalogue import CATALOGUE
from modelspace.losses.choice import Choice
from modelspace.losses.functional import FUNCTIONS, MODULES, PAIRINGS
from modelspace.losses.given import Given
from modelspace.losses.loss import Loss
from modelspace.losses.multiclass.base import LEFT_OUT, MulticlassLoss
from modelspace.losses.structured.embedding import EmbeddingLoss

# By their very type: a subclass of the user's may do anything.
_OURS = {type(loss) for loss in CATALOGUE.values() if not isinstance(loss, EmbeddingLoss)}
_FUNCTIONS = (F.cross_entropy, *FUNCTIONS)


def is_sample_mean(loss: Loss, labels: Shaped[Tensor, "..."]) -> bool:
    """Whether the value of all these labels is the mean over samples of what each has by itself.

    It is known of the losses of the catalogue, and of PyTorch's own as they come: without weights, with the mean as
    their reduction. Labels that are left out (``ignore_index``, −100) make the mean one of the others. Of a function
    of the user's nothing is known.

    Args:
        loss: The loss.
        labels: All of them, ``[N, …]``.

    Example:
        >>> import torch
        >>> from modelspace.losses import resolve
        >>> labels = torch.tensor([0, 2, 1])
        >>> is_sample_mean(resolve(nn.CrossEntropyLoss()), labels)
        True
        >>> is_sample_mean(resolve(nn.CrossEntropyLoss(ignore_index=2)), labels)
        False
    """
    if isinstance(loss, Choice):
        return all(is_sample_mean(part, labels) for part in loss.among)
    if isinstance(loss, Given):
        function = loss.function
        return (
            _of_module(function, labels)
            if isinstance(function, nn.Module)
            else _of_function(function, labels)
        )
    return type(loss) in _OURS and not (isinstance(loss, MulticlassLoss) and _some(labels, LEFT_OUT))


def _of_module(module: nn.Module, labels: Tensor) -> bool:
    hooked = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    weighted = [*module.parameters(), *module.buffers()]
    if type(module) not in MODULES or hooked or weighted:
        return False
    return module.reduction in ("mean", "batchmean") and not _some(
        labels, getattr(module, "ignore_index", None)
    )


def _of_function(function: Callable[..., Any], labels: Tensor) -> bool:
    if isinstance(function, partial) and function.func in PAIRINGS:
        function = function.args[1]
    if isinstance(function, partial) and not function.args and set(function.keywords) <= {"reduction"}:
        if function.keywords.get("reduction", "mean") not in ("mean", "batchmean"):
            return False
        function = function.func
    leaves_out = function is F.cross_entropy or function is F.nll_loss
    return any(function is known for known in _FUNCTIONS) and not (leaves_out and _some(labels, LEFT_OUT))


def _some(labels: Tensor, left_out: int | None) -> bool:
    """Whether some of the labels are the one that is left out; class probabilities have none."""
    return left_out is not None and not labels.is_floating_point() and bool((labels == left_out).any())
