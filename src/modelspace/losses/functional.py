"""The losses of ``torch.nn.functional`` that take outputs and labels and nothing more, by name."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from modelspace.losses import contracts
from modelspace.losses.loss import Loss
from modelspace.losses.shapes import require_class_labels, require_same_shape


def _elementwise(
    name: str,
    function: Callable[..., Tensor],
    outputs: Float[Tensor, "..."],
    labels: Shaped[Tensor, "..."],
) -> Float[Tensor, ""]:
    require_same_shape(name, outputs, labels)
    return function(outputs, labels.to(outputs.dtype))


def _by_class(
    name: str,
    function: Callable[..., Tensor],
    outputs: Float[Tensor, "..."],
    labels: Shaped[Tensor, "..."],
) -> Float[Tensor, ""]:
    require_class_labels(name, outputs, labels)
    return function(outputs, labels.long())


def _class_sets(
    name: str,
    function: Callable[..., Tensor],
    outputs: Float[Tensor, "..."],
    labels: Shaped[Tensor, "..."],
) -> Float[Tensor, ""]:
    require_same_shape(name, outputs, labels)
    return function(outputs, labels.long())


# How each loss pairs outputs with labels, and what the values must be. kl_div takes "batchmean", the
# divergence's mean over the batch: its own "mean" divides by the classes too, and torch warns about it.
_LOSSES = {
    "mse_loss": (_elementwise, F.mse_loss, contracts.anything),
    "l1_loss": (_elementwise, F.l1_loss, contracts.anything),
    "smooth_l1_loss": (_elementwise, F.smooth_l1_loss, contracts.anything),
    "huber_loss": (_elementwise, F.huber_loss, contracts.anything),
    "binary_cross_entropy": (_elementwise, F.binary_cross_entropy, contracts.probabilities),
    "binary_cross_entropy_with_logits": (
        _elementwise,
        F.binary_cross_entropy_with_logits,
        contracts.unit_labels,
    ),
    "soft_margin_loss": (_elementwise, F.soft_margin_loss, contracts.plus_minus_one),
    "hinge_embedding_loss": (_elementwise, F.hinge_embedding_loss, contracts.plus_minus_one),
    "multilabel_soft_margin_loss": (_elementwise, F.multilabel_soft_margin_loss, contracts.unit_labels),
    "poisson_nll_loss": (_elementwise, F.poisson_nll_loss, contracts.counts),
    "kl_div": (_elementwise, partial(F.kl_div, reduction="batchmean"), contracts.log_probabilities),
    "nll_loss": (_by_class, F.nll_loss, contracts.log_probabilities_and_classes),
    "multi_margin_loss": (_by_class, F.multi_margin_loss, contracts.class_labels),
    "multilabel_margin_loss": (_class_sets, F.multilabel_margin_loss, contracts.anything),
}

FUNCTIONAL = {
    name: Loss(name, partial(pair, name, function), contract)
    for name, (pair, function, contract) in _LOSSES.items()
}
