"""Losses and gradients of c stacked members: ``vmap`` of the forward, then ordinary backward; or a loop.

The loss of a population is one for all, or each member's own by a column, with parameters that are columns too: its
``terms``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from modelspace.data import Data, Streamed, check_classes
from modelspace.engine.function import Function, Named, Work
from modelspace.errors import ModelspaceError
from modelspace.losses import (
    Choice,
    Loss,
    Objective,
    Objectives,
    Weighted,
    has_own,
    objective_of,
    of_the_model,
    resolve,
)
from modelspace.nest import Nest, WeightedLabels, axes, called, take
from modelspace.population import Population

Score = Callable[[Any, Any], Tensor]


def at(score: Score, terms: Mapping[str, Tensor]) -> Score:
    """Return a score at one member's own hyper-parameters, where it is a loss that has them."""
    return score.at(terms) if isinstance(score, Loss) else score


def work_of(score: Score, labels: Nest) -> Work:
    """Return what is computed with a module and its inputs before a score is taken: outputs, or an objective."""
    return partial(score.made, labels=labels) if isinstance(score, Loss) else called


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


def goal_of(population: Population, data: Data, loss: Any, objective: Any) -> Loss:
    """Return what is minimised: the objective, or the loss; where neither is given, what the model says itself.

    Args:
        population: The members.
        data: What is learned.
        loss: As of ``loss_of``; None where none was given, which is cross-entropy.
        objective: A function of (model, batch), or ``"model"``; None where none was given.

    Raises:
        ModelspaceError: both are given, there are no labels for a loss, or negative ones that it does not leave out.
    """
    objective, given = objective_of(objective), loss is not None or "loss" in population.table
    if objective is not None and given:
        raise ModelspaceError("both a loss and an objective are given: what is minimised is one of them")
    several = isinstance(objective, Objectives)
    if several is not ("objective" in population.table):
        raise ModelspaceError(
            "a column objective says which of several: objective={'a': f, 'b': g} and sample(…, objective=['a', 'b'])"
        )
    if objective is None and not given and has_own(population.space.template):
        objective = Objective(of_the_model)
    if objective is not None:
        return replace(objective, form=data.form)
    if data.train.labels is None:
        raise ModelspaceError(
            f"data '{data.name}' has no labels, which a loss is taken of: give an objective=, a function of (model, "
            "batch)"
        )
    goal = loss_of(population, "cross_entropy" if loss is None else loss)
    counted = goal.on(data.train.labels)
    if isinstance(data.train, Streamed) and counted != goal:
        raise ModelspaceError(
            f"{goal}: 'balanced' weights are counted from all training labels, which a stream has not: give numbers"
        )
    goal = counted
    for each in goal.among if isinstance(goal, Choice) else (goal,):
        if each.labels in ("class", "rank", "sign"):
            check_classes(data, {each.left_out, -1 if each.labels == "sign" else None})
    if not isinstance(data.train.labels, WeightedLabels):
        return goal
    return Choice(tuple(map(Weighted, goal.among))) if isinstance(goal, Choice) else Weighted(goal)


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
        inputs: A nest of ``[batch, …]``, or of ``[c, batch, …]``.
        labels: The same; None where there are none.
        own: Whether inputs and labels are each member's own.
        own_labels: Whether at least the labels are.
    """

    inputs: Nest
    labels: Nest
    own: bool
    own_labels: bool = False

    @property
    def axes(self) -> tuple[Nest, Nest]:
        """What ``vmap`` is told of inputs and labels."""
        return axes(self.inputs, 0 if self.own else None), axes(
            self.labels, 0 if self.own or self.own_labels else None
        )

    def of(self, k: int) -> tuple[Nest, Nest]:
        """Return what one member sees."""
        return (
            take(self.inputs, k) if self.own else self.inputs,
            take(self.labels, k) if self.own or self.own_labels else self.labels,
        )


class Gradient(NamedTuple):
    """What one step of c members yields.

    Attributes:
        losses: ``[c]``.
        gradient: ``[c, n]``, zero where a parameter took no part.
        used: ``[1 or c, n]`` booleans, False where a parameter took no part in the loss; None if all did.
        buffers: After the forward, ``[c, …]`` each.
        also: Further scalars of an objective, ``[c]`` each.
    """

    losses: Float[Tensor, "member"]
    gradient: Float[Tensor, "member parameter"]
    used: Bool[Tensor, "member parameter"] | None
    buffers: Named
    also: Named


def vmap_gradient(
    function: Function,
    loss: Score,
    points: Float[Tensor, "member parameter"],
    buffers: Named,
    batch: Batch,
    seeds: Int[Tensor, "member"],
    step: Int[Tensor, "*member"],
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
        step: The optimizer step; each member's own where it has a dimension.
        scale: What each loss is multiplied with before the backward, and its gradient divided by after.
        terms: The hyper-parameters of the loss that differ from member to member.
    """
    leaves = {n: v.detach().requires_grad_() for n, v in function.space.layout.views(points).items()}

    def one(
        own: Named, kept: Named, inputs: Nest, labels: Nest, seed: Tensor, step: Tensor, terms: Named
    ) -> Any:
        goal = at(loss, terms)
        work = work_of(goal, labels)
        outputs, after = function(own, kept, inputs, training=True, seed=seed, step=step, work=work)
        value = function.score(goal, outputs, labels)
        return value, {name: value.detach() for name, value in after.items()}, _also(goal, outputs)

    copies = {name: value.clone() for name, value in buffers.items()}
    losses, after, also = torch.vmap(one, in_dims=(0, 0, *batch.axes, 0, 0 if step.dim() else None, 0))(
        leaves, copies, batch.inputs, batch.labels, seeds, step, dict(terms or {})
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
    gradient = gradient if scale is None else gradient / scale[:, None]
    return Gradient(losses.detach(), gradient, used, after, also)


def loop_gradient(
    function: Function,
    loss: Score,
    points: Float[Tensor, "member parameter"],
    buffers: Named,
    batch: Batch,
    seeds: Int[Tensor, "member"],
    step: Int[Tensor, "*member"],
    scale: Float[Tensor, "member"] | None = None,
    terms: Mapping[str, Float[Tensor, "member"]] | None = None,
) -> Gradient:
    """Compute one member after the other, each as in plain PyTorch; the arguments are those of ``vmap_gradient``."""
    single = function.single
    leaves = list(single.leaves.values())
    gradient = torch.empty_like(points)
    used: Tensor | None = None  # all of it, unless a parameter is seen to have taken no part
    losses, also = [], []
    after = {name: torch.empty_like(value) for name, value in buffers.items()}
    rows = zip(points.unbind(), gradient.unbind(), seeds.unbind(), strict=True)
    for k, (point, row, seed) in enumerate(rows):
        inputs, labels = batch.of(k)
        goal = at(loss, {name: column[k] for name, column in (terms or {}).items()})
        own = {n: b[k] for n, b in buffers.items()}
        work = work_of(goal, labels)
        number = step[k] if step.dim() else step
        outputs, kept = single(point, own, inputs, training=True, seed=seed, step=number, work=work)
        value = goal(outputs, labels)
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
        torch.cat([(g.to_dense() if g.is_sparse else g).reshape(-1) for g in dense], out=row)
        losses.append(value.detach())
        also.append(_also(goal, outputs))
        for name, held in after.items():
            held[k] = kept[name]
    if scale is not None:
        gradient /= scale[:, None]
    values = {name: torch.stack([each[name] for each in also]) for name in also[0]}
    return Gradient(torch.stack(losses), gradient, used, after, values)


def _also(goal: Score, outputs: Any) -> Named:
    return goal.also(outputs) if isinstance(goal, Loss) else {}


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
        {n: torch.stack([each.also[n] for each in gradients]).mean(0) for n in gradients[0].also},
    )
