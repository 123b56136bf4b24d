"""What members' outputs say together: the combined prediction, its uncertainty, and how foreign an input is.

Outputs are ``[K, N, …]``, members first; what a member's outputs mean follows from its loss. The prediction of member
k is p_k: probabilities ``[N, C, …]`` or ``[N, …]``, or values ``[N, …]``; member k weighs w_k, Σ w_k = 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from modelspace import metrics
from modelspace.errors import ModelspaceError, unknown_name
from modelspace.losses import Gaussian, Given, LocationScaleLoss, Loss
from modelspace.metrics import Metric

Kind = Literal["classes", "binary", "location-scale", "values"]
Outputs = Float[Tensor, "member sample *output"]
Weights = Float[Tensor, "member"]
COMBINATIONS: dict[str, tuple[Kind, ...]] = {
    "mean": ("classes", "binary", "location-scale", "values"),
    "geometric": ("classes", "binary"),
    "vote": ("classes", "binary"),
    "mixture": ("location-scale",),
}
_OWN_LINK = {"score": torch.sigmoid, "log-probability": torch.exp, "log-rate": torch.exp}


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """How unsure an ensemble is, and of which part more members or more data would make it surer.

    Of classes, in nats: the entropy of the mean, H(p̄) = Σ w_k H(p_k) + Σ w_k KL(p_k ‖ p̄), which is the mean entropy
    and the mutual information of label and member. Of a location and a scale: the variance of the mixture,
    Σ w_k σ_k² + Σ w_k (μ_k − μ̄)². Of values alone, members state no variance: ``total`` and ``aleatoric`` are None.

    Attributes:
        total: ``[N, …]``.
        aleatoric: What each member says of itself: the mean entropy, or the mean variance.
        epistemic: What members disagree in: the mutual information, or the variance of the means.

    Source:
        Depeweg, Hernández-Lobato, Doshi-Velez & Udluft, "Decomposition of uncertainty in Bayesian deep learning for
        efficient and risk-sensitive learning", ICML 2018; Lakshminarayanan, Pritzel & Blundell, "Simple and scalable
        predictive uncertainty estimation using deep ensembles", NeurIPS 2017.
    """

    total: Tensor | None
    aleatoric: Tensor | None
    epistemic: Tensor


def kind_of(loss: Loss | None) -> Kind:
    """Tell what the outputs of a member trained for this loss are; values where it is not known."""
    if loss is None:
        return "values"
    if isinstance(loss, LocationScaleLoss):
        return "location-scale"
    if loss.labels in ("sign", "unit", "multi-hot"):
        return "binary"
    return "classes" if loss.outputs in ("logits", "log-probability") else "values"


def usual_combination(loss: Loss | None) -> str:
    """Return the combination for a loss: the mean prediction; of a location and a scale, the mixture.

    Scores that stand for no probabilities (hinge losses) are counted as votes.
    """
    kind = kind_of(loss)
    if kind == "location-scale":
        return "mixture"
    return "vote" if kind in ("classes", "binary") and not _has_link(loss) else "mean"


def check_combination(how: str, loss: Loss | None) -> None:
    """Refuse a combination that is unknown, or is none of such outputs.

    Raises:
        ModelspaceError: it is.
    """
    if how not in COMBINATIONS:
        raise unknown_name("combination", how, COMBINATIONS)
    kind = kind_of(loss)
    if kind not in COMBINATIONS[how]:
        known = ", ".join(name for name, kinds in COMBINATIONS.items() if kind in kinds)
        given = "outputs whose loss is not known" if loss is None else f"the outputs of '{loss.name}'"
        fix = ": give loss='cross_entropy', or what they were trained for" if loss is None else ""
        raise ModelspaceError(f"combine='{how}' is none of {given}{fix} (combinations here: {known})")
    if how in ("mean", "geometric") and kind in ("classes", "binary") and not _has_link(loss):
        raise ModelspaceError(
            f"combine='{how}' takes probabilities, and the scores of '{loss and loss.name}' stand for none: "
            "combine='vote'"
        )


def _has_link(loss: Loss | None) -> bool:
    """Whether a loss's outputs stand for probabilities."""
    return loss is not None and _link(loss, torch.zeros(1, 2)) is not None


def _link(loss: Loss, outputs: Tensor) -> Tensor | None:
    p = loss.probability(outputs)
    if p is None and isinstance(loss, Given):  # PyTorch's own, whose outputs are known by kind
        if loss.outputs == "logits" and "margin" not in loss.name.lower():
            return torch.softmax(outputs, 1)
        if loss.outputs == "probability":
            return outputs
    own = _OWN_LINK.get(str(loss.outputs)) if isinstance(loss, Given) or loss.outputs == "log-rate" else None
    return own(outputs) if p is None and own is not None else p


def predictions(loss: Loss | None, outputs: Outputs) -> Outputs:
    """Turn each member's outputs into its prediction: probabilities by the loss's inverse link, locations, values."""
    if loss is None:
        return outputs
    if isinstance(loss, LocationScaleLoss):
        return outputs[:, :, 0]
    found = _link(loss, outputs.flatten(0, 1))
    return outputs if found is None else found.unflatten(0, outputs.shape[:2])


def combined(how: str, loss: Loss | None, outputs: Outputs, weights: Weights) -> Tensor:
    """Combine members' outputs: see ``Ensemble``.

    Args:
        how: ``mean``, Σ w_k p_k. ``geometric``, the softmax of Σ w_k log p_k, which is the mean of logits. ``vote``,
            Σ w_k [the class that k takes for likeliest]. ``mixture``, the location and log-scale of which mean and
            variance are those of the mixture Σ w_k N(μ_k, σ_k²).
        loss: What members were trained for.
        outputs: Theirs.
        weights: ``[K]``, of sum 1.
    """
    kind = kind_of(loss)
    if how == "mixture":
        assert isinstance(loss, LocationScaleLoss)
        mean, aleatoric, epistemic = moments(loss, outputs, weights)
        return torch.stack([mean, _log_scale(loss, aleatoric + epistemic)], 1)
    p = predictions(loss, outputs)
    if how == "vote":
        if kind == "classes":
            votes = torch.zeros_like(p).scatter(2, p.argmax(2, keepdim=True), 1)
        else:
            votes = (p > (0.5 if _has_link(loss) else 0.0)).to(p.dtype)
        return weighted(votes, weights)
    if how == "geometric":
        tiny = torch.finfo(p.dtype).tiny
        if kind == "classes":
            return weighted(p.clamp(min=tiny).log(), weights).softmax(1)
        return weighted(p.clamp(min=tiny).log() - (1 - p).clamp(min=tiny).log(), weights).sigmoid()
    return weighted(p, weights)


def weighted(values: Outputs, weights: Weights) -> Tensor:
    """Compute Σ w_k x_k."""
    return torch.tensordot(weights.to(values), values, 1)


def moments(loss: LocationScaleLoss, outputs: Outputs, weights: Weights) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the mixture's mean, the mean of its parts' variances and the variance of their means."""
    location, log_scale = outputs[:, :, 0], outputs[:, :, 1]
    variance = log_scale.exp() if isinstance(loss, Gaussian) else 2 * (2 * log_scale).exp()
    mean = weighted(location, weights)
    return mean, weighted(variance, weights), weighted((location - mean).square(), weights)


def _log_scale(loss: LocationScaleLoss, variance: Tensor) -> Tensor:
    """The logarithm of a scale as the loss has it: log σ² of the Gaussian, log b with variance 2 b² of Laplace."""
    return variance.log() if isinstance(loss, Gaussian) else (variance.log() - log(2)) / 2


def tempered(combination: Tensor, temperature: Tensor, loss: Loss | None) -> Tensor:
    """Soften a combined prediction: p^(1/T) / Σ p^(1/T); or a variance T times as large."""
    kind, t = kind_of(loss), temperature.to(combination)
    if kind == "classes":
        p = combination.pow(1 / t)
        return p * (combination.sum(1, keepdim=True) / p.sum(1, keepdim=True))
    if kind == "binary":
        p, q = combination.pow(1 / t), (1 - combination).pow(1 / t)
        return p / (p + q)
    if combination.ndim > 1 and kind == "location-scale" and combination.shape[1] == 2:
        log_t = t.log() if isinstance(loss, Gaussian) else t.log() / 2
        return torch.stack([combination[:, 0], combination[:, 1] + log_t], 1)
    return combination


def uncertainty_of(loss: Loss | None, outputs: Outputs, weights: Weights) -> Uncertainty:
    """Take apart how unsure members are together: see ``Uncertainty``."""
    if isinstance(loss, LocationScaleLoss):
        _, aleatoric, epistemic = moments(loss, outputs, weights)
        return Uncertainty(aleatoric + epistemic, aleatoric, epistemic)
    p, kind = predictions(loss, outputs), kind_of(loss)
    if kind == "values" or not _has_link(loss):
        mean = weighted(p, weights)
        return Uncertainty(None, None, weighted((p - mean).square(), weights))
    total, aleatoric = _entropy(weighted(p, weights), kind, 1), weighted(_entropy(p, kind, 2), weights)
    return Uncertainty(total, aleatoric, total - aleatoric)


def _entropy(p: Tensor, kind: Kind, classes: int) -> Tensor:
    """−Σ p log p, over the dimension of classes, or of p and 1 − p."""
    entr = torch.special.entr
    return entr(p).sum(classes) if kind == "classes" else entr(p) + entr(1 - p)


def foreignness(loss: Loss | None, outputs: Outputs, weights: Weights) -> dict[str, Float[Tensor, "sample"]]:
    """Score how foreign each input is to what members were trained on, the larger the more so.

    Args:
        loss: What they were trained for.
        outputs: Theirs.
        weights: ``[K]``.

    Returns:
        Of classes ``max_probability`` (1 − max p̄), ``entropy`` H(p̄), ``mutual_information``, and of logits
        ``energy``, −Σ w_k log Σ_c e^(z_kc); of values ``variance``, of the members' predictions. The places of a
        sample, such as pixels, are averaged.

    Source:
        Hendrycks & Gimpel, "A baseline for detecting misclassified and out-of-distribution examples", ICLR 2017; Liu,
        Wang, Owens & Li, "Energy-based out-of-distribution detection", NeurIPS 2020.
    """
    sure, kind = uncertainty_of(loss, outputs, weights), kind_of(loss)
    found = {"variance": sure.epistemic}
    if sure.total is not None and kind in ("classes", "binary"):
        p = weighted(predictions(loss, outputs), weights)
        largest = p.amax(1) if kind == "classes" else torch.maximum(p, 1 - p)
        found = {"max_probability": 1 - largest, "entropy": sure.total, "mutual_information": sure.epistemic}
        if loss is not None and loss.outputs == "logits":
            found["energy"] = -weighted(outputs.logsumexp(2), weights)
        elif loss is not None and loss.outputs == "score":
            half = outputs / 2  # the two classes' logits are ±z/2
            found["energy"] = -weighted(torch.logaddexp(half, -half), weights)
    return {name: value.flatten(1).mean(1) if value.ndim > 1 else value for name, value in found.items()}


def judge(loss: Loss | None, how: str, metric: str | Metric | Callable[..., Any] | None = None) -> Metric:
    """Return the metric given, or the one that suits: the log-loss, the loss of a location and a scale."""
    if metric is None and how == "mixture":
        metric = loss
    elif metric is None and kind_of(loss) in ("classes", "binary"):
        metric = "accuracy" if how == "vote" else "log_loss"
    return metrics.resolve("mse" if metric is None else metric)


def usual_metrics(loss: Loss | None, how: str, labels: Tensor) -> list[Any]:
    """Return what is measured where nothing is asked for.

    Raises:
        ModelspaceError: labels are classes, and what outputs are is not known.
    """
    if kind_of(loss) in ("classes", "binary"):
        return ["accuracy"] if how == "vote" else ["log_loss", "accuracy", "brier", "ece"]
    if loss is None and not labels.is_floating_point():
        raise ModelspaceError(
            "labels are classes, and how outputs are read is not known: Ensemble(…, loss='cross_entropy'), or metrics="
        )
    return [*([loss] if how == "mixture" else []), "mse", "r2"]


def score(loss: Loss | None, combination: Tensor, labels: Tensor, metric: Metric) -> float:
    """Score a combined prediction, given to the metric as one model's outputs would be: log p, log-odds, values."""
    kind, tiny, given = kind_of(loss), torch.finfo(combination.dtype).tiny, combination
    if (
        kind == "location-scale"
        and given.ndim > labels.ndim
        and not isinstance(metric.function, LocationScaleLoss)
    ):
        given = given[:, 0]
    elif kind == "classes" or (isinstance(metric.function, Loss) and metric.function.outputs == "log-rate"):
        given = given.clamp(min=tiny).log()
    elif kind == "binary":
        given = given.clamp(min=tiny).log() - (1 - given).clamp(min=tiny).log()
    elif given.numel() == labels.numel() and not isinstance(metric.function, LocationScaleLoss):
        given = given.reshape(labels.shape)
    return float(metric(given, labels))


def words(loss: Loss | None, how: str) -> str:
    """Say what a combination is."""
    kind = kind_of(loss)
    if how == "mean" and kind in ("values", "location-scale"):
        return "mean of the outputs" if kind == "values" else "mean of the locations"
    return {
        "mean": "mean of the probabilities",
        "geometric": "softmax of the mean logits",
        "vote": "share of the votes",
        "mixture": "mixture of the members' distributions",
    }[how]
