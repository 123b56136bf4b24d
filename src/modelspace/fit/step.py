"""One training step of a shard: gradient, clipping, update, and the isolation of members that diverge."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from modelspace.engine import Batch, Function, Lowering, loop_gradient, vmap_gradient
from modelspace.losses import Loss
from modelspace.optimizers import Optimizer, clip_by_norm, clip_by_value


@dataclass
class Shard:
    """c members in training. A step writes into these tensors.

    Attributes:
        points: ``[c, n]``.
        buffers: ``[c, …]`` each.
        state: The optimizer's, ``[c, n]`` each.
        active: Members still training: neither diverged nor stopped.
        steps: Updates that each member has made.
        hyper: Hyper-parameter columns, ``[c, 1]``.
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
        self, factor: Tensor, number: Tensor, inputs: Tensor, labels: Tensor
    ) -> tuple[
        Tensor, dict[str, Tensor], dict[str, Tensor], Tensor, Tensor, dict[str, Tensor], *tuple[Tensor, ...]
    ]:
        """The arguments of a step.

        Args:
            factor: The schedule's factor of the learning rate, ``[c, 1]``.
            number: The step's number, 0 at the first.
            inputs: The batch.
            labels: Its labels.
        """
        shard = (self.points, self.buffers, self.state, self.active, self.steps, self.hyper, self.seeds)
        return (*shard, factor, number, inputs, labels)


def make_step(
    function: Function, loss: Loss, optimizer: Optimizer, lowering: Lowering, *, own_batches: bool
) -> Callable[..., Float[Tensor, "member"]]:
    """The step of a shard, for ``step(*shard.arguments(…))``; it returns the losses before the update.

    A member whose loss, or whose next point, is not finite keeps its last point, leaves ``active`` and is never
    touched again; the other rows are computed exactly as if it were not there.

    Args:
        function: The architecture.
        loss: The loss.
        optimizer: The optimizer.
        lowering: How the gradient is computed.
        own_batches: Whether each member has its own samples (a leading member axis in inputs and labels).
    """
    gradient_of = vmap_gradient if lowering == "vmap" else loop_gradient

    def step(
        points: Tensor,
        buffers: dict[str, Tensor],
        state: dict[str, Tensor],
        active: Tensor,
        steps: Tensor,
        hyper: dict[str, Tensor],
        seeds: Tensor,
        factor: Tensor,
        number: Tensor,
        inputs: Tensor,
        labels: Tensor,
    ) -> Tensor:
        found = gradient_of(function, loss, points, buffers, Batch(inputs, labels, own_batches), seeds, number)
        gradient = found.gradient
        if "clip_norm" in hyper:
            gradient = clip_by_norm(gradient, hyper["clip_norm"])
        if "clip_value" in hyper:
            gradient = clip_by_value(gradient, hyper["clip_value"])
        scheduled = {**hyper, "lr": hyper["lr"] * factor}
        new, new_state = optimizer.update(gradient, state, points, scheduled, (number + 1).to(torch.float64))
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
