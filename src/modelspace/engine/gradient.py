"""Losses and gradients of c stacked members: ``vmap`` of the forward, then ordinary backward; or a loop."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from modelspace.engine.function import Function
from modelspace.engine.terms import Score, at


class Batch(NamedTuple):
    """One step's samples: shared by all members, or each member's own (then with a leading member axis).

    Attributes:
        inputs: ``[batch, …]``, or ``[c, batch, …]``.
        labels: ``[batch, …]``, or ``[c, batch, …]``.
        own: Whether inputs and labels are each member's own.
        own_labels: Whether at least the labels are.
    """

    inputs: Tensor
    labels: Tensor
    own: bool
    own_labels: bool = False


class Gradient(NamedTuple):
    """What one step of c members yields.

    Attributes:
        losses: ``[c]``.
        gradient: ``[c, n]``, zero where a parameter took no part.
        used: ``[1 or c, n]`` booleans, False where a parameter took no part in the loss; None if all did.
        buffers: After the forward, ``[c, …]`` each.
    """

    losses: Float[Tensor, "member"]
    gradient: Float[Tensor, "member parameter"]
    used: Bool[Tensor, "member parameter"] | None
    buffers: dict[str, Tensor]


def vmap_gradient(
    function: Function,
    loss: Score,
    points: Float[Tensor, "member parameter"],
    buffers: dict[str, Tensor],
    batch: Batch,
    seeds: Int[Tensor, "member"],
    step: Int[Tensor, ""],
    scale: Float[Tensor, "member"] | None = None,
    terms: Mapping[str, Float[Tensor, "member"]] | None = None,
) -> Gradient:
    """All members in one batched forward and one backward.

    Args:
        function: The architecture.
        loss: Of outputs and labels.
        points: ``[c, n]``.
        buffers: ``[c, …]`` each.
        batch: The samples.
        seeds: What the members' random numbers are a function of.
        step: The optimizer step.
        scale: What each loss is multiplied with before the backward, and its gradient divided by after.
        terms: The hyper-parameters of the loss that differ from member to member.
    """
    leaves = {n: v.detach().requires_grad_() for n, v in function.space.layout.views(points).items()}

    def one(
        parameters: dict[str, Tensor],
        kept: dict[str, Tensor],
        inputs: Tensor,
        labels: Tensor,
        seed: Tensor,
        terms: dict[str, Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        outputs, after = function(parameters, kept, inputs, training=True, seed=seed, step=step)
        value = function.score(at(loss, terms), outputs, labels)
        return value, {name: value.detach() for name, value in after.items()}

    samples = (0 if batch.own else None, 0 if batch.own or batch.own_labels else None)
    copies = {name: value.clone() for name, value in buffers.items()}
    losses, after = torch.vmap(one, in_dims=(0, 0, *samples, 0, 0))(
        leaves, copies, batch.inputs, batch.labels, seeds, dict(terms or {})
    )
    total = losses.sum() if scale is None else (losses * scale).sum()
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    gradient, used = _joined(found, leaves)
    return Gradient(losses.detach(), gradient if scale is None else gradient / scale[:, None], used, after)


def loop_gradient(
    function: Function,
    loss: Score,
    points: Float[Tensor, "member parameter"],
    buffers: dict[str, Tensor],
    batch: Batch,
    seeds: Int[Tensor, "member"],
    step: Int[Tensor, ""],
    scale: Float[Tensor, "member"] | None = None,
    terms: Mapping[str, Float[Tensor, "member"]] | None = None,
) -> Gradient:
    """One member after the other, each exactly as in plain PyTorch; the arguments are those of ``vmap_gradient``."""
    single = function.single
    leaves = list(single.leaves.values())
    gradient = torch.zeros_like(points)
    used = torch.ones_like(points, dtype=torch.bool)
    losses = []
    after = {name: torch.empty_like(value) for name, value in buffers.items()}
    for k, point in enumerate(points):
        inputs = batch.inputs[k] if batch.own else batch.inputs
        labels = batch.labels[k] if batch.own or batch.own_labels else batch.labels
        outputs, kept = single(
            point, {n: b[k] for n, b in buffers.items()}, inputs, training=True, seed=seeds[k], step=step
        )
        value = at(loss, {name: column[k] for name, column in (terms or {}).items()})(outputs, labels)
        (
            value if scale is None else value * scale[k]
        ).backward()  # and not grad(): hooks see what they expect
        found = [leaf.grad for leaf in leaves]
        for leaf in leaves:
            leaf.grad = None
        single.write_back(point)
        if any(g is None for g in found):
            used[k] = torch.cat(
                [torch.full((p.numel(),), g is not None) for p, g in zip(leaves, found, strict=True)]
            )
        dense = (torch.zeros_like(p) if g is None else g for p, g in zip(leaves, found, strict=True))
        torch.cat([(g.to_dense() if g.is_sparse else g).reshape(-1) for g in dense], out=gradient[k])
        losses.append(value.detach())
        for name, held in after.items():
            held[k] = kept[name]
    if scale is not None:
        gradient /= scale[:, None]
    return Gradient(torch.stack(losses), gradient, None if bool(used.all()) else used, after)


def mean_gradient(found: Sequence[Gradient]) -> Gradient:
    """Losses and gradients of several batches, averaged; the buffers after the last."""
    used = found[0].used
    for other in found[1:]:
        used = None if used is None or other.used is None else used | other.used
    return Gradient(
        torch.stack([each.losses for each in found]).mean(0),
        torch.stack([each.gradient for each in found]).mean(0),
        used,
        found[-1].buffers,
    )


def _joined(found: tuple[Tensor | None, ...], leaves: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    """The blocks' gradients as one matrix, and which coordinates have one."""
    parts = [
        (torch.zeros_like(leaf) if g is None else g.to_dense() if g.is_sparse else g).reshape(
            leaf.shape[0], -1
        )
        for g, leaf in zip(found, leaves.values(), strict=True)
    ]
    used = None
    if any(g is None for g in found):
        flags = [
            torch.full((1, p.shape[1]), g is not None, device=p.device)
            for g, p in zip(found, parts, strict=True)
        ]
        used = torch.cat(flags, 1)
    return torch.cat(parts, 1), used
