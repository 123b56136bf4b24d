"""The course of one shard, from first update to last: a checkpoint can be made between any two, and restored."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from modelspace.fit.early_stopping import Stopper
from modelspace.fit.step import Shard
from modelspace.runs import Needs, Status, needed


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

    def tensors(self, real: int, needs: Needs = "all") -> dict[str, Tensor]:
        """The first ``real`` members as named tensors, member axis first: all of it, or what is needed of it."""
        shard, rule = self.shard, self.stopper.rule
        ended = torch.where(shard.active, Status.FINISHED.code, Status.DIVERGED.code)
        named = self._held() | {
            "states": torch.where(self.stopper.stopped, Status.STOPPED.code, ended).to(torch.int8),
            **{f"curves.{name}": values[:, : self.epoch] for name, values in self.curves.items()},
            "losses": self.losses[:, : self.step],
            "position": torch.tensor([[self.epoch, self.step]]).expand(len(shard.active), 2),
        }
        if rule is not None and rule.restore_best:
            points, buffers = self.stopper.best()
            named |= {"best.points": points, **{f"best.buffers.{n}": v for n, v in buffers.items()}}
        return {name: value[:real] for name, value in needed(named, needs).items()}

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
