"""One training step of a shard: gradient, clipping, update, and the isolation of members that diverge."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from modelspace.engine import (
    Batch,
    Function,
    Gradient,
    Lowering,
    loop_gradient,
    mean_gradient,
    vmap_gradient,
)
from modelspace.fit import precision
from modelspace.losses import Loss
from modelspace.optimizers import Optimizer, Schedule, clip_by_norm, clip_by_value


@dataclass
class Shard:
    """c members in training. A step writes into these tensors.

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


@dataclass(frozen=True)
class Coefficients:
    """What an update multiplies with at each step: optimizer, schedule and clipping, in one tensor.

    They depend on columns and step only, so they are computed for many steps at once, in double precision.

    Attributes:
        optimizer: The optimizer.
        schedule: The learning rate's factor.
        clipping: ``clip_norm``, ``clip_value``, both or none: the columns that limit the gradient.
    """

    optimizer: Optimizer
    schedule: Schedule
    clipping: tuple[str, ...]

    def of(self, shard: Shard, first: int, count: int, total: int) -> Float[Tensor, "step name member 1"]:
        """The coefficients of ``count`` steps from ``first`` on, of ``total``, in the points' type."""
        numbers = torch.arange(first, first + count, dtype=torch.float64, device=shard.points.device)
        columns = {name: shard.hyper[name].T for name in self.schedule.hyperparameters()}
        factors = self.schedule.factor(numbers[:, None], total, columns)[:, :, None]
        scheduled = {**shard.hyper, "lr": shard.hyper["lr"] * factors}
        found = self.optimizer.coefficients(scheduled, numbers[:, None, None] + 1)
        found |= {name: shard.hyper[name] for name in self.clipping}
        shape = (count, len(shard.points), 1)
        return torch.stack([value.expand(shape) for value in found.values()], 1).to(shard.points.dtype)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What the second axis of ``of`` holds, in its order."""
        one = torch.ones(1, 2, dtype=torch.float64)
        hyper = dict.fromkeys(self.optimizer.hyperparameters(), one)
        return (*self.optimizer.coefficients(hyper, one), *self.clipping)


def make_step(
    function: Function,
    loss: Loss,
    coefficients: Coefficients,
    lowering: Lowering,
    *,
    own_batches: bool,
    accumulate: int = 1,
) -> Callable[..., Float[Tensor, "member"]]:
    """The step of a shard, for ``step(*shard.arguments(…))``; it returns the losses before the update.

    A member whose loss, or whose next point, is not finite keeps its last point, leaves ``active`` and is never
    touched again; the other rows are computed exactly as if it were not there. With loss scales, a member whose
    gradient alone is not finite leaves this update out and goes on at half its scale.

    Args:
        function: The architecture.
        loss: The loss.
        coefficients: Optimizer and clipping.
        lowering: How the gradient is computed.
        own_batches: Whether each member has its own samples (a leading member axis in inputs and labels).
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
    ) -> Gradient:
        if accumulate == 1:
            batch = Batch(inputs, labels, own_batches)
            return gradient_of(function, loss, points, buffers, batch, seeds, number, scale)
        found: list[Gradient] = []
        for i in range(accumulate):
            batch = Batch(inputs[i], labels[i], own_batches)
            kept = found[-1].buffers if found else buffers
            draw = number * accumulate + i
            found.append(gradient_of(function, loss, points, kept, batch, seeds, draw, scale))
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
    ) -> Tensor:
        found = gradient(points, buffers, seeds, number, inputs, labels, scaling.get("scale"))
        going = active & found.losses.isfinite()
        updated = going
        if scaling:
            finite = found.gradient.isfinite().all(1)
            for name, value in precision.rescaled(scaling, finite).items():
                scaling[name].copy_(value)
            going = going & precision.can_go_on(scaling)
            updated = going & finite
        new, new_state = _update(found, state, points, stacked)
        unbounded = ~new.isfinite().all(1) & updated
        going, updated = going & ~unbounded, updated & ~unbounded
        row = updated[:, None]
        points.copy_(torch.where(row, new, points))
        for name, value in state.items():
            value.copy_(torch.where(row, new_state[name], value))
        for name, value in buffers.items():
            value.copy_(torch.where(going.view(-1, *[1] * (value.dim() - 1)), found.buffers[name], value))
        steps.add_(updated)
        active.copy_(going)
        return found.losses

    def _update(
        found: Gradient, state: dict[str, Tensor], points: Tensor, stacked: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        gradient = found.gradient
        c = dict(zip(coefficients.names, stacked.unbind(), strict=True))
        if "clip_norm" in c:
            gradient = clip_by_norm(gradient, c["clip_norm"])
        if "clip_value" in c:
            gradient = clip_by_value(gradient, c["clip_value"])
        new, new_state = optimizer.apply(gradient, state, points, c)
        if found.used is not None:
            # torch.optim skips a parameter without a gradient: no decay, no momentum.
            new = torch.where(found.used, new, points)
            new_state = {name: torch.where(found.used, new_state[name], state[name]) for name in state}
        return new, new_state

    return step
