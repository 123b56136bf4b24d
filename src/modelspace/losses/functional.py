"""PyTorch's own losses: the functions that take outputs and labels and nothing more, by name, and the modules."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from modelspace.losses import contracts
from modelspace.losses.contracts import Contract
from modelspace.losses.given import Given
from modelspace.losses.loss import Labels, Outputs
from modelspace.losses.shapes import require_class_labels, require_same_shape

_Function = Callable[..., Tensor]
_Pairing = Callable[[str, _Function, Tensor, Tensor], Tensor]


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


# How each loss pairs outputs with labels, what the values must be, and what both are. kl_div takes "batchmean", the
# divergence's mean over the batch: its own "mean" divides by the classes too, and torch warns about it.
_LOSSES: dict[str, tuple[_Pairing, _Function, Contract, Outputs, Labels]] = {
    "mse_loss": (_elementwise, F.mse_loss, contracts.anything, "real", "real"),
    "l1_loss": (_elementwise, F.l1_loss, contracts.anything, "real", "real"),
    "smooth_l1_loss": (_elementwise, F.smooth_l1_loss, contracts.anything, "real", "real"),
    "huber_loss": (_elementwise, F.huber_loss, contracts.anything, "real", "real"),
    "binary_cross_entropy": (
        _elementwise,
        F.binary_cross_entropy,
        contracts.probabilities,
        "probability",
        "unit",
    ),
    "binary_cross_entropy_with_logits": (
        _elementwise,
        F.binary_cross_entropy_with_logits,
        contracts.unit_labels,
        "score",
        "unit",
    ),
    "soft_margin_loss": (_elementwise, F.soft_margin_loss, contracts.plus_minus_one, "score", "sign"),
    "hinge_embedding_loss": (
        _elementwise,
        F.hinge_embedding_loss,
        contracts.plus_minus_one,
        "positive",
        "sign",
    ),
    "multilabel_soft_margin_loss": (
        _elementwise,
        F.multilabel_soft_margin_loss,
        contracts.unit_labels,
        "score",
        "multi-hot",
    ),
    "poisson_nll_loss": (_elementwise, F.poisson_nll_loss, contracts.counts, "log-rate", "count"),
    "kl_div": (
        _elementwise,
        partial(F.kl_div, reduction="batchmean"),
        contracts.log_probabilities,
        "log-probability",
        "distribution",
    ),
    "nll_loss": (
        _by_class,
        F.nll_loss,
        contracts.log_probabilities_and_classes,
        "log-probability",
        "class",
    ),
    "multi_margin_loss": (_by_class, F.multi_margin_loss, contracts.class_labels, "logits", "class"),
    "multilabel_margin_loss": (
        _class_sets,
        F.multilabel_margin_loss,
        contracts.anything,
        "logits",
        "class",
    ),
}

FUNCTIONAL = {
    name: Given(name, partial(pair, name, function), contract, outputs, labels)
    for name, (pair, function, contract, outputs, labels) in _LOSSES.items()
}

MODULES = {
    nn.CrossEntropyLoss: "cross_entropy",
    nn.NLLLoss: "nll_loss",
    nn.BCELoss: "binary_cross_entropy",
    nn.BCEWithLogitsLoss: "binary_cross_entropy_with_logits",
    nn.MSELoss: "mse_loss",
    nn.L1Loss: "l1_loss",
    nn.SmoothL1Loss: "smooth_l1_loss",
    nn.HuberLoss: "huber_loss",
    nn.SoftMarginLoss: "soft_margin_loss",
    nn.HingeEmbeddingLoss: "hinge_embedding_loss",
    nn.MultiLabelSoftMarginLoss: "multilabel_soft_margin_loss",
    nn.PoissonNLLLoss: "poisson_nll_loss",
    nn.KLDivLoss: "kl_div",
    nn.MultiMarginLoss: "multi_margin_loss",
    nn.MultiLabelMarginLoss: "multilabel_margin_loss",
}


FUNCTIONS = tuple(getattr(F, name) for name in _LOSSES)
PAIRINGS = (_elementwise, _by_class, _class_sets)


def of_module(module: nn.Module) -> Given:
    """A loss module as it is, with what is known of PyTorch's own: what outputs and labels are, that none broadcasts.

    Args:
        module: Of outputs and labels, such as ``nn.CrossEntropyLoss(ignore_index=-1)``.
    """
    kind = type(module).__name__
    name = MODULES.get(type(module))
    if name is None:
        return Given(kind, module)
    if name == "cross_entropy":
        return Given(kind, module, outputs="logits", labels="class")
    known = FUNCTIONAL[name]
    if _LOSSES[name][0] is not _elementwise:
        return Given(kind, module, outputs=known.outputs, labels=known.labels)

    def contract(name: str, outputs: Tensor, labels: Tensor) -> None:
        require_same_shape(name, outputs, labels)
        known.contract(name, outputs, labels)

    return Given(kind, module, contract, known.outputs, known.labels)
