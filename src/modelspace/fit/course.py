"""The course of one shard, from first update to last: it can be put down between any two, and taken up again."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from modelspace.fit.early_stopping import Stopper
from modelspace.fit.recipe import Recipe
from modelspace.fit.step import Shard
from modelspace.runs import Outcome, Status


@dataclass
class Course:
    """A shard between two updates, with all that its next one depends on.

    Attributes:
        shard: The members.
        stopper: Early stopping.
        curves: What was recorded after each epoch, ``[c, epochs]``.
        losses: Before each update of the current epoch, ``[c, steps]``.
        training: The members that were training when the epoch began.
        epoch: Epochs behind it.
        step: Updates behind it in the current epoch.
    """

    shard: Shard
    stopper: Stopper
    curves: dict[str, Float64[Tensor, "member epoch"]]
    losses: Float64[Tensor, "member step"]
    training: Bool[Tensor, "member"]
    epoch: int = 0
    step: int = 0

    def take(self, losses: Float[Tensor, "member"]) -> None:
        """Note the losses of one update."""
        if self.step == 0:
            self.training = self.shard.active.clone()
        self.losses[:, self.step] = losses
        self.step += 1

    def end_epoch(self, measured: Float[Tensor, "member score"]) -> None:
        """Note the validation scores after an epoch, and stop whom the rule stops."""
        kept = (self.training & self.shard.active).cpu()
        for values, found in zip(
            self.curves.values(), [self.losses.mean(1), *measured.unbind(1)], strict=True
        ):
            values[kept, self.epoch] = found.cpu().to(torch.float64)[kept]
        self.stopper.after({name: values[:, self.epoch] for name, values in self.curves.items()})
        self.epoch, self.step = self.epoch + 1, 0

    def outcome(self, real: int) -> Outcome:
        """What became of the first ``real`` members; the others fill the shard up."""
        shard = self.shard
        points, buffers = self.stopper.best()
        ended = torch.where(shard.active, Status.FINISHED.code, Status.DIVERGED.code)
        states = torch.where(self.stopper.stopped, Status.STOPPED.code, ended)
        return Outcome(
            points[:real],
            {name: value[:real] for name, value in buffers.items()},
            {name: values[:real] for name, values in self.curves.items()},
            states[:real].cpu().to(torch.int8),
            shard.steps[:real].cpu(),
        )

    def tensors(self, real: int) -> dict[str, Tensor]:
        """All of it as named tensors of the first ``real`` members, member axis first."""
        held = {name: value[:real].cpu().contiguous() for name, value in self._held().items()}
        held |= {f"curves.{name}": values[:real, : self.epoch] for name, values in self.curves.items()}
        held["losses"] = self.losses[:real, : self.step].cpu()
        held["position"] = torch.tensor([[self.epoch, self.step]]).expand(real, 2)
        return {name: value.contiguous() for name, value in held.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from where ``tensors`` was called, with as many members or fewer: the last one fills up."""
        index = torch.arange(len(self.training)).clamp(max=len(tensors["active"]) - 1)
        for name, value in self._held().items():
            if name in tensors:
                value.copy_(tensors[name][index])
        self.epoch, self.step = tensors["position"][0].tolist()
        for name, values in self.curves.items():
            known = tensors[f"curves.{name}"][index]
            values[:, : known.shape[1]] = known
        self.losses[:, : self.step] = tensors["losses"][index].to(self.losses.device)

    @classmethod
    def ended(cls, tensors: Mapping[str, Tensor], recipe: Recipe) -> "Course":
        """A course that was trained elsewhere, for its outcome.

        Args:
            tensors: What its ``tensors`` gave; without the optimizer's state, or points and buffers, where nobody
                will ask for them.
            recipe: The fit's.
        """
        members = len(tensors["active"])

        def parts(kind: str) -> dict[str, Tensor]:
            return {n.removeprefix(kind): value for n, value in tensors.items() if n.startswith(kind)}

        shard = Shard(
            tensors.get("points", torch.zeros(members, 0)),
            parts("buffers."),
            parts("state."),
            tensors["active"],
            tensors["steps"],
            {},
            torch.zeros(members, dtype=torch.int64),
            parts("scaling."),
        )
        nothing = torch.full((members, recipe.epochs), torch.nan, dtype=torch.float64)
        course = cls(
            shard,
            Stopper(recipe.early_stopping, recipe.higher_is_better, shard),
            {name: nothing.clone() for name in parts("curves.")},
            tensors["losses"].clone(),
            tensors["training"],
        )
        course.restore(tensors)
        return course

    def _held(self) -> dict[str, Tensor]:
        """What is written into, member axis first."""
        shard = self.shard
        return {
            "points": shard.points,
            **{f"buffers.{name}": value for name, value in shard.buffers.items()},
            **{f"state.{name}": value for name, value in shard.state.items()},
            **{f"scaling.{name}": value for name, value in shard.scaling.items()},
            "active": shard.active,
            "steps": shard.steps,
            "training": self.training,
            **{f"stopper.{name}": value for name, value in self.stopper.held().items()},
        }
