"""Losses for which ``vmap`` has no batching rule.

Those of single numbers and of vectors are their formulas; the others are the library's own, of all members' samples
as one batch, each member's mean taken after:

    kl_div               t log t − t x,  eᵗ(t − x) where targets are logarithms
    soft_margin          log(1 + exp(−t x))
    margin_ranking       max(0, m − t (x₁ − x₂))
    triplet_margin       max(0, m + d(a, p) − d(a, n))
    gaussian_nll         ½ (log v + (x − t)²/v),  v at least ε in its value, not in its gradient
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from modelspace.engine.lowerings.batched import Function, Pair, Table, batched, own

_NONE, _MEAN = 0, 1  # PyTorch's numbers for reductions; 2 is the sum


def _reduced(values: Tensor, reduction: int) -> Tensor:
    return values if reduction == _NONE else values.mean() if reduction == _MEAN else values.sum()


def kl_div(input: Tensor, target: Tensor, reduction: int = _MEAN, *, log_target: bool = False) -> Tensor:
    """``torch.kl_div``."""
    each = target.exp() * (target - input) if log_target else torch.xlogy(target, target) - target * input
    return _reduced(each, reduction)


def soft_margin_loss(input: Tensor, target: Tensor, reduction: int = _MEAN) -> Tensor:
    """``torch._C._nn.soft_margin_loss``."""
    return _reduced(torch.log1p(torch.exp(-target * input)), reduction)


def margin_ranking_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: int = _MEAN
) -> Tensor:
    """``torch.margin_ranking_loss``."""
    return _reduced((margin - target * (input1 - input2)).clamp_min(0), reduction)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: int = _MEAN,
) -> Tensor:
    """``torch.triplet_margin_loss``; with ``swap``, d(p, n) where it is less than d(a, n)."""
    near, far = F.pairwise_distance(anchor, positive, p, eps), F.pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = torch.minimum(far, F.pairwise_distance(positive, negative, p, eps))
    return _reduced((margin + near - far).clamp_min(0), reduction)


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """``F.gaussian_nll_loss``, which can't look here whether a variance is negative."""
    variance = var if isinstance(var, Tensor) else torch.full_like(input, var)
    if variance.shape != input.shape and variance.shape == input.shape[:-1]:
        variance = variance.unsqueeze(-1)
    variance = variance + (variance.clamp(min=eps) - variance).detach()
    each = 0.5 * (variance.log() + (input - target) ** 2 / variance)
    if full:
        each = each + 0.5 * math.log(2 * math.pi)
    return _reduced(each, {"none": _NONE, "mean": _MEAN, "sum": 2}[reduction])


_nn: Any = torch._C._nn  # pyright: ignore[reportAttributeAccessIssue]


def _each(function: Function, *arguments: Any) -> Tensor:
    """Return the loss of each sample: of ``[batch, class]`` outputs, the batch's labels and constants."""
    return function(*arguments, _NONE)


def _by_sample(count: int, function: Pair, x: Pair, labels: Pair, *constants: Pair) -> Tensor:
    outputs, target = x[0], own(labels, count)
    fold = outputs.dim() == 3
    given = (outputs.flatten(0, 1), target.flatten(0, 1)) if fold else (outputs, target)
    each = _each(function[0], *given, *(value for value, _ in constants))
    return each.unflatten(0, (count, -1)) if fold else each


def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: float = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    reduction: int = _MEAN,
) -> Tensor:
    """``torch._C._nn.multi_margin_loss``; a sample's loss is multiplied by the weight of its class."""
    each = batched(_each, _by_sample, _nn.multi_margin_loss, input, target, p, margin, None)
    return _reduced(each if weight is None else each * weight[target], reduction)


def multilabel_margin_loss(input: Tensor, target: Tensor, reduction: int = _MEAN) -> Tensor:
    """``torch._C._nn.multilabel_margin_loss``."""
    return _reduced(batched(_each, _by_sample, _nn.multilabel_margin_loss, input, target), reduction)


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: int = _MEAN,
    zero_infinity: bool = False,
) -> Tensor:
    """``torch.ctc_loss``; its mean is over samples, each divided by its target's length.

    Args:
        log_probs: ``[time, batch, class]``, or without the batch.
        targets: ``[batch, length]``, or one after the other ``[sum of lengths]``.
        input_lengths: ``[batch]``, of the sequences.
        target_lengths: ``[batch]``, of the targets.
        blank: The class that stands for nothing.
        reduction: 0 none, 1 mean, 2 sum.
        zero_infinity: Whether an infinite loss counts as zero.
    """
    single = log_probs.dim() == 2
    lengths = [
        torch.as_tensor(x, device=log_probs.device).reshape(-1) for x in (input_lengths, target_lengths)
    ]
    if single:
        log_probs, targets = log_probs[:, None], targets[None]
    each = batched(_ctc, _ctc_rule, log_probs, targets, *lengths, blank, zero_infinity)
    each = each[0] if single and reduction == _NONE else each
    return _reduced(each / lengths[1].clamp_min(1) if reduction == _MEAN else each, reduction)


def _ctc(log_probs: Tensor, targets: Tensor, inputs: Tensor, lengths: Tensor, *settings: Any) -> Tensor:
    blank, zero_infinity = settings
    return torch.ctc_loss(log_probs, targets, inputs, lengths, blank, _NONE, zero_infinity)


def _ctc_rule(count: int, log_probs: Pair, *pairs: Pair) -> Tensor:
    others = [own(pair, count).flatten(0, 1) for pair in pairs[:3]]
    folded = log_probs[0].transpose(0, 1).flatten(1, 2)
    return _ctc(folded, *others, pairs[3][0], pairs[4][0]).view(count, -1)


def linear_cross_entropy(*args: Any, options: Any = None, **settings: Any) -> Tensor:
    """``F.linear_cross_entropy`` without chunks: that form's gradient is wrong under ``vmap`` (torch 2.13)."""
    return F.linear_cross_entropy(*args, **settings)


TABLE: Table = {
    torch.kl_div: kl_div,
    _nn.soft_margin_loss: soft_margin_loss,
    torch.margin_ranking_loss: margin_ranking_loss,
    torch.triplet_margin_loss: triplet_margin_loss,
    F.gaussian_nll_loss: gaussian_nll_loss,
    _nn.multi_margin_loss: multi_margin_loss,
    _nn.multilabel_margin_loss: multilabel_margin_loss,
    torch.ctc_loss: ctc_loss,
}

if hasattr(F, "linear_cross_entropy"):  # since torch 2.13
    TABLE = {**TABLE, F.linear_cross_entropy: linear_cross_entropy}
