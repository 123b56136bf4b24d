"""Losses and gradients of c stacked members: ``vmap`` of the forward, then ordinary backward; or a loop.

The loss of a population is one for all, or each member's own by a column, with parameters that are columns too: its
``terms``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from modelspace.engine.function import Function, Named
from modelspace.errors import ModelspaceError
from modelspace.losses import Choice, Loss, resolve
from modelspace.population import Population

Score = Callable[[Tensor, Tensor], Tensor]


def at(score: Score, terms: Mapping[str, Tensor]) -> Score:
    """Return a score at one member's own hyper-parameters, where it is a loss that has them."""
    return score.at(terms) if isinstance(score, Loss) else score


def loss_of(population: Population, loss: str | Loss | Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """Return a choice among the losses that the population's column ``loss`` names; without one, the loss given.

    Args:
        population: The population.
        loss: A name, a loss or a function.

    Raises:
        ModelspaceError: an unknown name, or two names of one loss.
    """
    if "loss" not in population.table:
        return resolve(loss)
    named = {name: resolve(name) for name in population.table["loss"].unique()}
    names: dict[Loss, str] = {}
    for name, each in named.items():
        if names.setdefault(each, name) != name:
            raise ModelspaceError(
                f"column loss has one loss under two names, {names[each]} and {name}: give one"
            )
    return Choice(tuple(named.values()))


def terms_of(population: Population, loss: Loss) -> dict[str, Float64[Tensor, "member"]]:
    """Return the loss's hyper-parameters that are columns, one value a member; of losses, their places in the choice.

    Args:
        population: The population.
        loss: What ``loss_of`` gave.

    Raises:
        ModelspaceError: an unknown name of a loss.
    """
    terms = {}
    for name in loss.hyperparameters():
        if name in population.table:
            column = population.table[name]
            if isinstance(loss, Choice) and name == "loss":
                column = loss.places(column)
            terms[name] = torch.tensor(np.asarray(column, dtype=np.float64))
    return terms


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
    buffers: Named


def vmap_gradient(
    function: Function,
    loss: Score,
    points: Float[Tensor, "member parameter"],
    buffers: Named,
    batch: Batch,
    seeds: Int[Tensor, "member"],
    step: Int[Tensor, ""],
    scale: Float[Tensor, "member"] | None = None,
    terms: Mapping[str, Float[Tensor, "member"]] | None = None,
) -> Gradient:
    """Compute all members in one batched forward and one backward.

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

    def one(own: Named, kept: Named, inputs: Tensor, labels: Tensor, seed: Tensor, terms: Named) -> Any:
        outputs, after = function(own, kept, inputs, training=True, seed=seed, step=step)
        value = function.score(at(loss, terms), outputs, labels)
        return value, {name: value.detach() for name, value in after.items()}

    samples = (0 if batch.own else None, 0 if batch.own or batch.own_labels else None)
    copies = {name: value.clone() for name, value in buffers.items()}
    losses, after = torch.vmap(one, in_dims=(0, 0, *samples, 0, 0))(
        leaves, copies, batch.inputs, batch.labels, seeds, dict(terms or {})
    )
    total = losses.sum() if scale is None else (losses * scale).sum()
    parts = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    rows = [
        (torch.zeros_like(leaf) if part is None else part.to_dense() if part.is_sparse else part).reshape(
            leaf.shape[0], -1
        )
        for part, leaf in zip(parts, leaves.values(), strict=True)
    ]
    used = None
    if any(part is None for part in parts):
        flags = [
            torch.full((1, row.shape[1]), part is not None, device=row.device)
            for part, row in zip(parts, rows, strict=True)
        ]
        used = torch.cat(flags, 1)
    gradient = torch.cat(rows, 1)
    return Gradient(losses.detach(), gradient if scale is None else gradient / scale[:, None], used, after)


def loop_gradient(
    function: Function,
    loss: Score,
    points: Float[Tensor, "member parameter"],
    buffers: Named,
    batch: Batch,
    seeds: Int[Tensor, "member"],
    step: Int[Tensor, ""],
    scale: Float[Tensor, "member"] | None = None,
    terms: Mapping[str, Float[Tensor, "member"]] | None = None,
) -> Gradient:
    """Compute one member after the other, each as in plain PyTorch; the arguments are those of ``vmap_gradient``."""
    single = function.single
    leaves = list(single.leaves.values())
    gradient = torch.empty_like(points)
    used: Tensor | None = None  # all of it, unless a parameter is seen to have taken no part
    losses = []
    after = {name: torch.empty_like(value) for name, value in buffers.items()}
    for k, point in enumerate(points):
        inputs = batch.inputs[k] if batch.own else batch.inputs
        labels = batch.labels[k] if batch.own or batch.own_labels else batch.labels
        outputs, kept = single(
            point, {n: b[k] for n, b in buffers.items()}, inputs, training=True, seed=seeds[k], step=step
        )
        value = at(loss, {name: column[k] for name, column in (terms or {}).items()})(outputs, labels)
        # And not grad(): hooks see what they expect.
        (value if scale is None else value * scale[k]).backward()
        parts = [leaf.grad for leaf in leaves]
        for leaf in leaves:
            leaf.grad = None
        single.write_back(point)
        if any(part is None for part in parts):
            used = torch.ones_like(points, dtype=torch.bool) if used is None else used
            flags = [
                torch.full((p.numel(),), part is not None) for p, part in zip(leaves, parts, strict=True)
            ]
            used[k] = torch.cat(flags)
        dense = (torch.zeros_like(p) if g is None else g for p, g in zip(leaves, parts, strict=True))
        torch.cat([(g.to_dense() if g.is_sparse else g).reshape(-1) for g in dense], out=gradient[k])
        losses.append(value.detach())
        for name, held in after.items():
            held[k] = kept[name]
    if scale is not None:
        gradient /= scale[:, None]
    return Gradient(torch.stack(losses), gradient, used, after)


def mean_gradient(gradients: Sequence[Gradient]) -> Gradient:
    """Average the losses and gradients of several batches; take the buffers after the last."""
    used = gradients[0].used
    for other in gradients[1:]:
        used = None if used is None or other.used is None else used | other.used
    return Gradient(
        torch.stack([each.losses for each in gradients]).mean(0),
        torch.stack([each.gradient for each in gradients]).mean(0),
        used,
        gradients[-1].buffers,
    )
