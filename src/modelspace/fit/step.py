"""One training step of a shard: gradient, clipping, update, and the isolation of members that diverge."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from modelspace.engine import Batch, Function, Gradient, Lowering, loop_gradient, mean_gradient, vmap_gradient
from modelspace.fit import precision
from modelspace.losses import Loss
from modelspace.optimizers import Optimizer, Schedule, applied, clip_by_norm, clip_by_value
from modelspace.widest import widest


class After(NamedTuple):
    """What a step makes of a shard; the fields that a ``Shard`` has too are to replace its own.

    Attributes:
        losses: Before the update, ``[c]``.
        points: ``[c, n]``.
        state: ``[c, n]`` each.
        updated: The rows of ``points`` and ``state`` that count: the others keep what they had.
        scaling: As the shard's.
        buffers: As the shard's.
        active: As the shard's.
        steps: As the shard's.
    """

    losses: Float[Tensor, "member"]
    points: Float[Tensor, "member parameter"]
    state: dict[str, Tensor]
    updated: Bool[Tensor, "member"]
    scaling: dict[str, Tensor]
    buffers: dict[str, Tensor]
    active: Bool[Tensor, "member"]
    steps: Int64[Tensor, "member"]


@dataclass
class Shard:
    """c members in training.

    Attributes:
        points: ``[c, n]``.
        buffers: ``[c, …]`` each.
        state: The optimizer's, ``[c, n]`` each.
        active: Members still training: neither diverged nor stopped.
        steps: Updates that each member has made.
        hyper: Hyper-parameter columns, ``[c, 1]`` each, by name.
        seeds: What the members' random numbers are a function of.
        scaling: The members' loss scales, where products are in float16; see ``precision``.
    """

    points: Float[Tensor, "member parameter"]
    buffers: dict[str, Tensor]
    state: dict[str, Tensor]
    active: Bool[Tensor, "member"]
    steps: Int64[Tensor, "member"]
    hyper: dict[str, Float64[Tensor, "member _"]]
    seeds: Int64[Tensor, "member"]
    scaling: dict[str, Tensor] = field(default_factory=dict)

    def arguments(
        self, coefficients: Tensor, number: Tensor, inputs: Tensor, labels: Tensor
    ) -> tuple[Any, ...]:
        """The arguments of a step.

        Args:
            coefficients: What ``Coefficients.of`` gave for this step, ``[names, c, 1]``.
            number: The step's number, 0 at the first.
            inputs: The batch.
            labels: Its labels.
        """
        shard = (self.points, self.buffers, self.state, self.scaling, self.active, self.steps, self.seeds)
        return (*shard, coefficients, number, inputs, labels)

    def take(self, after: After) -> Float[Tensor, "member"]:
        """Go on from what a step made; its losses."""
        points, state = after.points, after.state
        if not _selects(points) and not bool(after.updated.all()):
            points, state = _selected(after.updated, points, state, self.points, self.state)
        self.points, self.state = points, state
        self.scaling, self.buffers = after.scaling, after.buffers
        self.active, self.steps = after.active, after.steps
        return after.losses


@dataclass(frozen=True)
class Coefficients:
    """What the members' hyper-parameters are at each step: optimizer, schedule, clipping, loss; in one tensor.

    They depend on columns and step only, so they are computed for many steps at once, in double precision.

    Attributes:
        optimizer: The optimizer.
        schedule: The learning rate's factor.
        clipping: ``clip_norm``, ``clip_value``, both or none: the columns that limit the gradient.
        terms: The columns that are hyper-parameters of the loss.
    """

    optimizer: Optimizer
    schedule: Schedule
    clipping: tuple[str, ...]
    terms: tuple[str, ...] = ()

    def of(self, shard: Shard, first: int, count: int, total: int) -> Float[Tensor, "step name member 1"]:
        """The coefficients of ``count`` steps from ``first`` on, of ``total``, in the points' (real) type."""
        device = shard.points.device
        numbers = torch.arange(first, first + count, dtype=widest(device), device=device)
        columns = {name: shard.hyper[name].T for name in self.schedule.hyperparameters()}
        factors = self.schedule.factor(numbers[:, None], total, columns)[:, :, None]
        scheduled = {**shard.hyper, "lr": shard.hyper["lr"] * factors}
        found = self.optimizer.coefficients(scheduled, numbers[:, None, None] + 1)
        found |= {name: shard.hyper[name] for name in (*self.clipping, *self.terms)}
        shape = (count, len(shard.points), 1)
        return torch.stack([value.expand(shape) for value in found.values()], 1).to(
            shard.points.dtype.to_real()
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What the second axis of ``of`` holds, in its order."""
        one = torch.ones(1, 2, dtype=torch.float64)
        hyper = dict.fromkeys(self.optimizer.hyperparameters(), one)
        return (*self.optimizer.coefficients(hyper, one), *self.clipping, *self.terms)


def make_step(
    function: Function,
    loss: Loss,
    coefficients: Coefficients,
    lowering: Lowering,
    *,
    own_batches: bool,
    own_labels: bool = False,
    accumulate: int = 1,
) -> Callable[..., After]:
    """The step of a shard, for ``shard.take(step(*shard.arguments(…)))``.

    A member whose loss, or whose next point, is not finite keeps its last point, leaves ``active`` and is never
    touched again; the other rows are computed exactly as if it were not there. With loss scales, a member whose
    gradient alone is not finite leaves this update out and goes on at half its scale.

    Args:
        function: The architecture.
        loss: The loss.
        coefficients: Optimizer, clipping, and the loss's own columns.
        lowering: How the gradient is computed.
        own_batches: Whether each member has its own samples (a leading member axis in the inputs).
        own_labels: Whether each member has its own labels (a leading member axis there).
        accumulate: Batches whose gradients' mean makes one update; above 1, inputs and labels have them as a
            further first axis.
    """
    optimizer = coefficients.optimizer
    gradient_of = vmap_gradient if lowering == "vmap" else loop_gradient

    def gradient(
        points: Tensor,
        buffers: dict[str, Tensor],
        seeds: Tensor,
        number: Tensor,
        inputs: Tensor,
        labels: Tensor,
        scale: Tensor | None,
        terms: dict[str, Tensor],
    ) -> Gradient:
        if accumulate == 1:
            batch = Batch(inputs, labels, own_batches, own_labels)
            return gradient_of(function, loss, points, buffers, batch, seeds, number, scale, terms)
        found: list[Gradient] = []
        for i in range(accumulate):
            batch = Batch(inputs[i], labels[i], own_batches, own_labels)
            kept = found[-1].buffers if found else buffers
            draw = number * accumulate + i
            found.append(gradient_of(function, loss, points, kept, batch, seeds, draw, scale, terms))
        return mean_gradient(found)

    def step(
        points: Tensor,
        buffers: dict[str, Tensor],
        state: dict[str, Tensor],
        scaling: dict[str, Tensor],
        active: Tensor,
        steps: Tensor,
        seeds: Tensor,
        stacked: Tensor,
        number: Tensor,
        inputs: Tensor,
        labels: Tensor,
    ) -> After:
        c = dict(zip(coefficients.names, stacked.unbind(), strict=True))
        terms = {name: c[name][:, 0] for name in coefficients.terms}
        found = gradient(points, buffers, seeds, number, inputs, labels, scaling.get("scale"), terms)
        going = active & found.losses.isfinite()
        updated = going
        if scaling:
            finite = _finite(found.gradient)
            scaling = precision.rescaled(scaling, finite)
            going = going & precision.can_go_on(scaling)
            updated = going & finite
        new, new_state = _update(found, state, points, c)
        unbounded = ~_finite(new) & updated
        going, updated = going & ~unbounded, updated & ~unbounded
        if _selects(points):
            new, new_state = _selected(updated, new, new_state, points, state)
        kept = {
            name: torch.where(going.view(-1, *[1] * (value.dim() - 1)), found.buffers[name], value)
            for name, value in buffers.items()
        }
        return After(found.losses, new, new_state, updated, scaling, kept, going, steps + updated)

    def _update(
        found: Gradient, state: dict[str, Tensor], points: Tensor, c: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        gradient = found.gradient
        if "clip_norm" in c:
            gradient = clip_by_norm(gradient, c["clip_norm"])
        if "clip_value" in c:
            gradient = clip_by_value(gradient, c["clip_value"])
        new, new_state = applied(optimizer, gradient, state, points, c)
        if found.used is not None:
            # torch.optim skips a parameter without a gradient: no decay, no momentum.
            new = torch.where(found.used, new, points)
            new_state = {name: torch.where(found.used, new_state[name], state[name]) for name in state}
        return new, new_state

    return step


def _selects(points: Tensor) -> bool:
    """Whether the step itself puts back the rows that don't count.

    On a CPU that is left to ``Shard.take``: it costs as much again as the update, and is hardly ever needed. On
    other devices asking whether it is needed would wait for the step to end.
    """
    return points.device.type != "cpu"


def _selected(
    rows: Bool[Tensor, "member"],
    points: Tensor,
    state: dict[str, Tensor],
    old_points: Tensor,
    old_state: dict[str, Tensor],
) -> tuple[Tensor, dict[str, Tensor]]:
    """The new rows where they count, the old ones elsewhere."""
    row = rows[:, None]
    kept = {name: torch.where(row, value, old_state[name]) for name, value in state.items()}
    return torch.where(row, points, old_points), kept


def _finite(rows: Float[Tensor, "member parameter"]) -> Bool[Tensor, "member"]:
    """Whether all of a row is finite: x − x is 0 there and NaN elsewhere, which one sum finds."""
    return (rows - rows).sum(1) == 0
