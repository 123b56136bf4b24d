"""One training step of a shard: gradient, clipping, update, and the isolation of members that diverge."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
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
from modelspace.fit.recipe import Coefficients, of_loss
from modelspace.losses import Loss
from modelspace.nest import Nest, take
from modelspace.optimizers import applied, clip_by_norm, clip_by_value, looked


class Shard(NamedTuple):
    """c members in training.

    Attributes:
        points: ``[c, n]``.
        buffers: ``[c, …]`` each.
        state: The optimizer's, ``[c, …]`` each.
        scaling: The members' loss scales, where products are in float16; see ``precision``.
        active: Members still training: neither diverged nor stopped.
        steps: Updates that each member has made.
        seeds: What the members' random numbers are a function of.
    """

    points: Float[Tensor, "member parameter"]
    buffers: dict[str, Tensor]
    state: dict[str, Tensor]
    scaling: dict[str, Tensor]
    active: Bool[Tensor, "member"]
    steps: Int64[Tensor, "member"]
    seeds: Int64[Tensor, "member"]


class Stepped(NamedTuple):
    """What a step makes of a shard; ``settled`` makes the next shard of it.

    Attributes:
        losses: Before the update, ``[c]``.
        shard: After it.
        updated: The rows of its points and state that count: the others are to keep what they had.
        also: Further scalars of an objective, before the update, ``[c]`` each.
        norms: Of the gradient, before clipping, where that is asked for: ``[c]``.
    """

    losses: Float[Tensor, "member"]
    shard: Shard
    updated: Bool[Tensor, "member"]
    also: dict[str, Tensor]
    norms: dict[str, Tensor]


@dataclass(frozen=True)
class Step:
    """The step of a shard, a pure function of tensors.

    A member whose loss, or whose next point, is not finite keeps its last point, leaves ``active`` and is never
    touched again; the other rows are computed exactly as if it were not there. With loss scales, a member whose
    gradient alone is not finite leaves this update out and goes on at half its scale.

    Attributes:
        function: The architecture.
        loss: The loss.
        coefficients: Optimizer, clipping, and the loss's own columns.
        lowering: How the gradient is computed.
        own_inputs: Whether each member has its own samples (a leading member axis in the inputs).
        own_labels: Whether each member has its own labels (a leading member axis there).
        accumulate: Batches whose gradients' mean makes one update; above 1, inputs and labels have them as a
            further first axis.
        norms: Whether the gradients' norms are asked for.
    """

    function: Function
    loss: Loss
    coefficients: Coefficients
    lowering: Lowering
    own_inputs: bool = False
    own_labels: bool = False
    accumulate: int = 1
    norms: bool = False

    def __call__(
        self,
        shard: Shard,
        coefficients: Float[Tensor, "name member cell"],
        number: Int64[Tensor, "*member"],
        batch: tuple[Nest, Nest],
    ) -> Stepped:
        """Compute one step.

        Args:
            shard: Before it.
            coefficients: What ``Coefficients.of`` gave for it.
            number: Its number, 0 at the first; one a member where they make unequal numbers of steps, −1 for a member
                that makes none now.
            batch: Inputs and labels.
        """
        c = self.coefficients.named(coefficients)
        gradient = self._looked(shard, c, number, batch)
        losses, scaling = gradient.losses, shard.scaling
        points, state = self._update(gradient, shard, c)
        bounded, defined = _finite(points), losses - losses == 0
        if not scaling:
            updated = going = shard.active & defined & bounded
        else:
            finite = _finite(gradient.gradient)
            scaling = precision.rescaled(scaling, finite)
            going = shard.active & defined & precision.can_go_on(scaling)
            updated = going & finite & bounded
            going = going & (bounded | ~finite)
        moved = going
        if number.dim():  # a member that makes no step now stays as it is
            takes = number >= 0
            scaling = {
                name: torch.where(takes, value, shard.scaling[name]) for name, value in scaling.items()
            }
            updated, moved, going = updated & takes, going & takes, torch.where(takes, going, shard.active)
        if not _settles_later(points):
            points, state = _selected(updated, points, state, shard)
        buffers = {n: by_row(moved, gradient.buffers[n], value) for n, value in shard.buffers.items()}
        after = Shard(points, buffers, state, scaling, going, shard.steps + updated, shard.seeds)
        rows = gradient.gradient
        norms = {"grad_norm": torch.linalg.vector_norm(rows, dim=1)} if self.norms else {}
        return Stepped(gradient.losses, after, updated, gradient.also, norms)

    def _looked(
        self, shard: Shard, c: dict[str, Tensor], number: Tensor, batch: tuple[Nest, Nest]
    ) -> Gradient:
        """The gradient that the optimizer asks for: at the points, or once more where it looks from there."""
        here = _thawed(self._gradient(shard, c, number, batch), c)
        points = looked(self.coefficients.optimizer, here.gradient, shard.points, c)
        if points is None:
            return here
        there = _thawed(self._gradient(shard._replace(points=points), c, number, batch), c)
        return there._replace(losses=here.losses, buffers=here.buffers)

    def _gradient(
        self, shard: Shard, c: dict[str, Tensor], number: Tensor, batch: tuple[Nest, Nest]
    ) -> Gradient:
        """The gradient of a batch, or the mean over several."""
        differentiate = vmap_gradient if self.lowering == "vmap" else loop_gradient
        terms = {name: c[of_loss(name)][:, 0] for name in self.coefficients.terms}
        gradients: list[Gradient] = []
        for i in range(self.accumulate):
            inputs, labels = batch if self.accumulate == 1 else take(batch, i)
            gradients.append(
                differentiate(
                    self.function,
                    self.loss,
                    shard.points,
                    gradients[-1].buffers if gradients else shard.buffers,
                    Batch(inputs, labels, self.own_inputs, self.own_labels),
                    shard.seeds,
                    number if self.accumulate == 1 else number * self.accumulate + i,
                    shard.scaling.get("scale"),
                    terms,
                )
            )
        return gradients[0] if self.accumulate == 1 else mean_gradient(gradients)

    def _update(
        self, gradient: Gradient, shard: Shard, c: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The points and the optimizer's state after clipping and update."""
        rows = gradient.gradient
        if "clip_norm" in c:
            rows = clip_by_norm(rows, c["clip_norm"])
        if "clip_value" in c:
            rows = clip_by_value(rows, c["clip_value"])
        points, state = applied(self.coefficients.optimizer, rows, shard.state, shard.points, c)
        used = gradient.used
        if used is not None:
            # torch.optim skips a parameter without a gradient: no decay, no momentum.
            points = torch.where(used, points, shard.points)
            state = {name: _where_used(used, value, shard.state[name]) for name, value in state.items()}
        return points, state


def _thawed(gradient: Gradient, c: dict[str, Tensor]) -> Gradient:
    """The gradient without the groups that wait for their first update, as if they took no part."""
    if "going" not in c:
        return gradient
    going = (c["going"] > 0).expand(gradient.gradient.shape)
    used = going if gradient.used is None else going & gradient.used
    return gradient._replace(gradient=torch.where(going, gradient.gradient, 0.0), used=used)


def _where_used(used: Bool[Tensor, "member parameter"], new: Tensor, old: Tensor) -> Tensor:
    """A state's new numbers where their coordinates were used; all of one that has none for each coordinate."""
    if new.shape[-1] != used.shape[-1]:
        return new
    return torch.where(used if new.dim() == 2 else used[:, None], new, old)


def settled(stepped: Stepped, before: Shard) -> Shard:
    """Return the shard after a step, with every row that does not count as it was before."""
    points, state = stepped.shard.points, stepped.shard.state
    if not _settles_later(points) or bool(stepped.updated.all()):
        return stepped.shard
    points, state = _selected(stepped.updated, points, state, before)
    return stepped.shard._replace(points=points, state=state)


def _settles_later(points: Tensor) -> bool:
    """Whether the rows that do not count are put back by ``settled``, and not within the step.

    So on a CPU: it costs as much again as the update, and is hardly ever needed. On other devices asking whether it
    is needed would wait for the step to end.
    """
    return points.device.type == "cpu"


def _selected(
    rows: Bool[Tensor, "member"], points: Tensor, state: dict[str, Tensor], before: Shard
) -> tuple[Tensor, dict[str, Tensor]]:
    """The new rows where they count, the old ones elsewhere."""
    kept = {name: by_row(rows, value, before.state[name]) for name, value in state.items()}
    return by_row(rows, points, before.points), kept


def by_row(rows: Bool[Tensor, "member"], value: Tensor, other: Tensor) -> Tensor:
    """Return one tensor's rows where they are chosen, the other's elsewhere, member axis first."""
    return torch.where(rows.view(-1, *[1] * (value.dim() - 1)), value, other)


def _finite(rows: Float[Tensor, "member parameter"]) -> Bool[Tensor, "member"]:
    """Whether all of a row is finite: x − x is 0 there and NaN elsewhere, which one sum finds."""
    return (rows - rows).sum(1) == 0
