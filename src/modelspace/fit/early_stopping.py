"""Early stopping, member by member."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.fit.step import Shard
from modelspace.widest import widest


@dataclass(frozen=True)
class EarlyStopping:
    """Stop a member whose monitored score has not improved for ``patience`` epochs; the others go on.

    Attributes:
        patience: Epochs without improvement that are tolerated, at least 1.
        monitor: A column of the history measured on the validation split: ``"validation_loss"``,
            ``"validation_accuracy"``.
        min_delta: The least change that counts as an improvement, at least 0.
        restore_best: Keep the point of the best epoch instead of the last one.

    Raises:
        ModelspaceError: patience below 1 or a negative ``min_delta``.
    """

    patience: int = 5
    monitor: str = "validation_loss"
    min_delta: float = 0.0
    restore_best: bool = False

    def __post_init__(self) -> None:
        if self.patience < 1 or self.min_delta < 0:
            raise ModelspaceError(
                f"early stopping needs patience ≥ 1 and min_delta ≥ 0; received {self.patience}, {self.min_delta}"
            )


class Stopper:
    """Applies a rule to one shard, epoch after epoch.

    Args:
        rule: The rule; None never stops anybody.
        higher_is_better: The scores, by their names in the history, of which more is better.
        shard: Whose members are stopped, by leaving ``active``.

    Attributes:
        stopped: The members that the rule has stopped.
    """

    def __init__(self, rule: EarlyStopping | None, higher_is_better: Collection[str], shard: Shard):
        self.rule = rule
        self.shard = shard
        self.stopped = torch.zeros_like(shard.active)
        if rule is not None:
            self.sign = -1.0 if rule.monitor in higher_is_better else 1.0
            self.best_score = torch.full_like(shard.active, torch.inf, dtype=widest(shard.active.device))
            self.waited = torch.zeros_like(shard.steps)
            if rule.restore_best:
                self.points = shard.points.clone()
                self.buffers = {name: value.clone() for name, value in shard.buffers.items()}

    def after(self, scores: Mapping[str, Tensor]) -> None:
        """Take in the scores of an epoch, one a member, and stop those that have waited long enough."""
        if self.rule is None:
            return
        score = self.sign * scores[self.rule.monitor].to(self.best_score)
        better = score < self.best_score - self.rule.min_delta
        self.best_score = torch.where(better, score, self.best_score)
        self.waited = torch.where(better, 0, self.waited + 1)
        if self.rule.restore_best:
            self.points[better] = self.shard.points[better]
            for name, value in self.buffers.items():
                value[better] = self.shard.buffers[name][better]
        now = self.shard.active & (self.waited >= self.rule.patience)
        self.stopped |= now
        self.shard.active = self.shard.active & ~now

    def best(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The members' points and buffers: those of the best epoch, where that was asked for."""
        if self.rule is None or not self.rule.restore_best:
            return self.shard.points, self.shard.buffers
        seen = self.best_score.isfinite()
        kept = {
            name: torch.where(seen.view(-1, *[1] * (value.dim() - 1)), value, self.shard.buffers[name])
            for name, value in self.buffers.items()
        }
        return torch.where(seen[:, None], self.points, self.shard.points), kept

    def held(self) -> dict[str, Tensor]:
        """What it has noted, member axis first."""
        if self.rule is None:
            return {}
        noted = {"best_score": self.best_score, "waited": self.waited, "stopped": self.stopped}
        if not self.rule.restore_best:
            return noted
        return {**noted, "points": self.points, **{f"buffers.{n}": v for n, v in self.buffers.items()}}
