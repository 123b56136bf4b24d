"""One training step of a shard: gradient, clipping, update, and the isolation of members that diverge."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from modelspace.engine import Batch, Function, Lowering, loop_gradient, vmap_gradient
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
    """

    points: Float[Tensor, "member parameter"]
    buffers: dict[str, Tensor]
    state: dict[str, Tensor]
    active: Bool[Tensor, "member"]
    steps: Int64[Tensor, "member"]
    hyper: dict[str, Float64[Tensor, "member _"]]
    seeds: Int64[Tensor, "member"]

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
        shard = (self.points, self.buffers, self.state, self.active, self.steps, self.seeds)
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
    function: Function, loss: Loss, coefficients: Coefficients, lowering: Lowering, *, own_batches: bool
) -> Callable[..., Float[Tensor, "member"]]:
    """The step of a shard, for ``step(*shard.arguments(…))``; it returns the losses before the update.

    A member whose loss, or whose next point, is not finite keeps its last point, leaves ``active`` and is never
    touched again; the other rows are computed exactly as if it were not there.

    Args:
        function: The architecture.
        loss: The loss.
        coefficients: Optimizer and clipping.
        lowering: How the gradient is computed.
        own_batches: Whether each member has its own samples (a leading member axis in inputs and labels).
    """
    optimizer = coefficients.optimizer
    gradient_of = vmap_gradient if lowering == "vmap" else loop_gradient

    def step(
        points: Tensor,
        buffers: dict[str, Tensor],
        state: dict[str, Tensor],
        active: Tensor,
        steps: Tensor,
        seeds: Tensor,
        stacked: Tensor,
        number: Tensor,
        inputs: Tensor,
        labels: Tensor,
    ) -> Tensor:
        found = gradient_of(
            function, loss, points, buffers, Batch(inputs, labels, own_batches), seeds, number
        )
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
        going = active & found.losses.isfinite() & new.isfinite().all(1)
        row = going[:, None]
        points.copy_(torch.where(row, new, points))
        for name, value in state.items():
            value.copy_(torch.where(row, new_state[name], value))
        for name, value in buffers.items():
            value.copy_(torch.where(going.view(-1, *[1] * (value.dim() - 1)), found.buffers[name], value))
        steps.add_(going)
        active.copy_(going)
        return found.losses

    return step
