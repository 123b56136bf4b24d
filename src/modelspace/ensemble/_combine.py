"""What members' outputs say together: the combined prediction, its uncertainty, and how foreign an input is.

Outputs are ``[K, N, …]``, members first; what they mean follows from the loss. The prediction of member k is p_k:
probabilities ``[N, C, …]`` or ``[N, …]``, or values ``[N, …]``; member k weighs w_k, Σ w_k = 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
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
COMBINATIONS: dict[str, dict[Kind, str]] = {  # of which outputs, and what it is
    "mean": {
        "classes": "mean of the probabilities",
        "binary": "mean of the probabilities",
        "location-scale": "mean of the locations",
        "values": "mean of the outputs",
    },
    "geometric": {"classes": "softmax of the mean logits", "binary": "sigmoid of the mean scores"},
    "vote": {"classes": "share of the votes", "binary": "share of the votes"},
    "mixture": {"location-scale": "mixture of the members' distributions"},
}
_OWN_LINKS: dict[str, Callable[[Tensor], Tensor]] = {
    "logits": lambda z: z.softmax(1),
    "score": torch.sigmoid,
    "probability": Tensor.clone,
    "log-probability": torch.exp,
    "log-rate": torch.exp,
}


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """How unsure an ensemble is, and of which part more members or more data would make it surer.

    Of classes, in nats, the entropy of the mean: H(p̄) = Σ w_k H(p_k) + Σ w_k KL(p_k ‖ p̄), the mean entropy and the
    mutual information of label and member. Of a location and a scale the variance of the mixture,
    Σ w_k σ_k² + Σ w_k (μ_k − μ̄)². Of values alone members state no variance: ``total`` and ``aleatoric`` are None.

    Attributes:
        total: ``[N, …]``.
        aleatoric: What each member says of itself: the mean entropy, or the mean variance.
        epistemic: What members disagree in: the mutual information, or the variance of the means.

    Source:
        Depeweg, Hernández-Lobato, Doshi-Velez & Udluft, "Decomposition of uncertainty in Bayesian deep learning for
        efficient and risk-sensitive learning", ICML 2018.
    """

    total: Tensor | None
    aleatoric: Tensor | None
    epistemic: Tensor


def kind_of(loss: Loss | None) -> Kind:
    """Tell what the outputs of a member trained for this loss are; values where it is not known."""
    if isinstance(loss, LocationScaleLoss):
        return "location-scale"
    if loss is not None and loss.labels in ("sign", "unit", "multi-hot"):
        return "binary"
    return "classes" if loss is not None and loss.outputs in ("logits", "log-probability") else "values"


def usual_combination(loss: Loss | None) -> str:
    """Return the mean; of a location and a scale the mixture; of scores that are no probabilities the vote."""
    kind = kind_of(loss)
    return (
        "mixture" if kind == "location-scale" else "mean" if kind == "values" or _has_link(loss) else "vote"
    )


def check_combination(how: str, loss: Loss | None) -> None:
    """Refuse a combination that is unknown, or is none of such outputs.

    Raises:
        ModelspaceError: it is.
    """
    if how not in COMBINATIONS:
        raise unknown_name("combination", how, COMBINATIONS)
    kind = kind_of(loss)
    known = [name for name, kinds in COMBINATIONS.items() if kind in kinds]
    if kind in ("classes", "binary") and not _has_link(loss):
        known = ["vote"]
    if how not in known:
        given = (
            f"of outputs of '{loss.name}'"
            if loss
            else "where the loss is not known; give loss='cross_entropy', …"
        )
        raise ModelspaceError(f"combine='{how}' is no combination {given} (known: {', '.join(known)})")


def _has_link(loss: Loss | None) -> bool:
    return loss is not None and _link(loss, torch.zeros(1, 2)) is not None


def _link(loss: Loss, outputs: Tensor) -> Tensor | None:
    """Probabilities, or means; None where outputs are neither, or are them already."""
    p = loss.probability(outputs)
    hinge = loss.outputs == "logits" and "margin" in loss.name.lower()
    own = _OWN_LINKS.get(str(loss.outputs)) if isinstance(loss, Given) or loss.outputs == "log-rate" else None
    return (
        own(outputs) if p is None and own is not None and not hinge else p
    )  # PyTorch's own, known by their outputs


def predictions(loss: Loss | None, outputs: Outputs) -> Outputs:
    """Turn each member's outputs into its prediction: probabilities by the loss's inverse link, locations, values."""
    if isinstance(loss, LocationScaleLoss):
        return outputs[:, :, 0]
    found = None if loss is None else _link(loss, outputs.flatten(0, 1))
    return outputs if found is None else found.unflatten(0, outputs.shape[:2])


def combined(how: str, loss: Loss | None, outputs: Outputs, weights: Weights) -> Tensor:
    """Combine members' outputs.

    ``mean``, Σ w_k p_k; ``geometric``, the softmax of Σ w_k log p_k; ``vote``, Σ w_k [the class that k takes for
    likeliest]; ``mixture``, the location and log-scale with the mean and variance of Σ w_k N(μ_k, σ_k²).
    """
    kind = kind_of(loss)
    if how == "mixture":
        mean, aleatoric, epistemic = _moments(loss, outputs, weights)
        variance = aleatoric + epistemic
        return torch.stack(
            [mean, variance.log() if isinstance(loss, Gaussian) else (variance / 2).log() / 2], 1
        )
    p = predictions(loss, outputs)
    if how == "vote" and kind == "classes":
        return weighted(torch.zeros_like(p).scatter(2, p.argmax(2, keepdim=True), 1), weights)
    if how == "vote":
        return weighted((p > (0.5 if _has_link(loss) else 0.0)).to(p.dtype), weights)
    if how == "geometric":
        logits = weighted(_logits(p, kind), weights)
        return logits.softmax(1) if kind == "classes" else logits.sigmoid()
    return weighted(p, weights)


def weighted(values: Outputs, weights: Weights) -> Tensor:
    """Compute Σ w_k x_k."""
    return torch.tensordot(weights.to(values), values, 1)


def _logits(p: Tensor, kind: Kind) -> Tensor:
    """Logarithms of probabilities; of the probability of +1, the log-odds."""
    tiny = torch.finfo(p.dtype).tiny
    found = p.clamp(min=tiny).log()
    return found if kind == "classes" else found - (1 - p).clamp(min=tiny).log()


def _moments(loss: Loss | None, outputs: Outputs, weights: Weights) -> tuple[Tensor, Tensor, Tensor]:
    """A mixture's mean, the mean of its parts' variances and the variance of their means."""
    location, s = outputs[:, :, 0], outputs[:, :, 1]
    variance = s.exp() if isinstance(loss, Gaussian) else 2 * (2 * s).exp()
    mean = weighted(location, weights)
    return mean, weighted(variance, weights), weighted((location - mean).square(), weights)


def tempered(combination: Tensor, temperature: Tensor, loss: Loss | None) -> Tensor:
    """Soften a combined prediction: p^(1/T) / Σ p^(1/T); or a variance T times as large."""
    kind, t = kind_of(loss), temperature.to(combination)
    if kind == "classes":
        p = combination.pow(1 / t)
        return p * (combination.sum(1, keepdim=True) / p.sum(1, keepdim=True))
    if kind == "binary":
        p, q = combination.pow(1 / t), (1 - combination).pow(1 / t)
        return p / (p + q)
    if kind == "location-scale" and combination.ndim > 1 and combination.shape[1] == 2:
        larger = combination[:, 1] + t.log() / (1 if isinstance(loss, Gaussian) else 2)
        return torch.stack([combination[:, 0], larger], 1)
    return combination


def uncertainty_of(loss: Loss | None, outputs: Outputs, weights: Weights) -> Uncertainty:
    """Take apart how unsure members are together: see ``Uncertainty``."""
    kind, entropy = kind_of(loss), torch.special.entr
    if kind == "location-scale":
        _, aleatoric, epistemic = _moments(loss, outputs, weights)
        return Uncertainty(aleatoric + epistemic, aleatoric, epistemic)
    p = predictions(loss, outputs)
    mean = weighted(p, weights)
    if kind == "values" or not _has_link(loss):
        return Uncertainty(None, None, weighted((p - mean).square(), weights))
    if kind == "classes":
        total, own = entropy(mean).sum(1), entropy(p).sum(2)
    else:
        total, own = (entropy(x) + entropy(1 - x) for x in (mean, p))
    return Uncertainty(total, weighted(own, weights), total - weighted(own, weights))


def foreignness(loss: Loss | None, outputs: Outputs, weights: Weights) -> dict[str, Float[Tensor, "sample"]]:
    """Score how foreign each input is, the larger the more so; places of a sample, such as pixels, are averaged."""
    sure, kind = uncertainty_of(loss, outputs, weights), kind_of(loss)
    found = {"variance": sure.epistemic}
    if loss is not None and sure.total is not None and kind != "location-scale":
        p = weighted(predictions(loss, outputs), weights)
        largest = p.amax(1) if kind == "classes" else torch.maximum(p, 1 - p)
        found = {"max_probability": 1 - largest, "entropy": sure.total, "mutual_information": sure.epistemic}
        if loss.outputs == "logits":
            found["energy"] = -weighted(outputs.logsumexp(2), weights)
        elif loss.outputs == "score":  # the two classes' logits are ±z/2
            found["energy"] = -weighted(torch.logaddexp(outputs / 2, -outputs / 2), weights)
    return {name: value.flatten(1).mean(1) if value.ndim > 1 else value for name, value in found.items()}


def judge(loss: Loss | None, how: str, metric: str | Metric | Callable[..., Any] | None = None) -> Metric:
    """Return the metric given, or the one that suits: the log-loss, the loss of a location and a scale."""
    if metric is None and how == "mixture":
        metric = loss
    elif metric is None and kind_of(loss) in ("classes", "binary"):
        metric = "accuracy" if how == "vote" else "log_loss"
    return metrics.resolve("mse" if metric is None else metric)


def score(loss: Loss | None, combination: Tensor, labels: Tensor, metric: Metric) -> float:
    """Score a combined prediction, given to the metric as one model's outputs would be: log p, log-odds, values."""
    kind, of = kind_of(loss), metric.function
    if kind in ("classes", "binary"):
        combination = _logits(combination, kind)
    elif isinstance(of, Loss) and of.outputs == "log-rate":
        combination = combination.log()
    elif not isinstance(of, LocationScaleLoss):
        if kind == "location-scale" and combination.ndim > labels.ndim:
            combination = combination[:, 0]
        combination = (
            combination.reshape(labels.shape) if combination.numel() == labels.numel() else combination
        )
    return float(metric(combination, labels))
