"""What ``Family.solve`` answers: a member, and why none is nearer to the target."""

from dataclasses import dataclass
from typing import Any

from modelspace.family._axes import said
from modelspace.family._members import Member


@dataclass(frozen=True)
class Neighbour:
    """The member next to the solution, with its value: why nothing nearer lies on that side.

    Attributes:
        hyperparameters: What makes it this member.
        value: What was solved for, there.
    """

    hyperparameters: dict[str, Any]
    value: int


@dataclass(frozen=True)
class Solution:
    """The member nearest to a target, traced, with its neighbours on both sides.

    Attributes:
        member: The member by a real trace.
        quantity: What was solved for: ``"parameters"``, ``"flops"`` (forward and backward) or ``"memory"``.
        target: What it should be.
        value: What it is, by the trace.
        law: The law that found it; ``"traced"`` where members were traced for it.
        below: The next smaller member that can be built; None where there is none.
        above: The next larger one.
    """

    member: Member
    quantity: str
    target: float
    value: int
    law: str
    below: Neighbour | None
    above: Neighbour | None

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """What makes it this member."""
        return self.member.hyperparameters

    @property
    def distance(self) -> float:
        """Value less target."""
        return self.value - self.target

    def __repr__(self) -> str:
        member = self.member
        lines = [
            said(self.hyperparameters),
            f"  {self.quantity:<12}{self.value:,}, {self.distance / self.target:+.3%} off {self.target:,.0f}",
        ]
        for side, neighbour in (("below", self.below), ("above", self.above)):
            if neighbour is not None:
                lines.append(
                    f"  {side:<12}{said(neighbour.hyperparameters)}: {neighbour.value:,}, "
                    f"{neighbour.value / self.target - 1:+.3%}"
                )
        lines.append(f"  {'traced':<12}n = {member.n:,}" + _cost(member))
        lines.append(f"  {'found by':<12}" + self.law.replace("\n", "\n" + 14 * " "))
        return "\n".join(lines)


def _cost(member: Member) -> str:
    if member.forward_flops is None or member.backward_flops is None or member.peak_bytes is None:
        return ""
    return (
        f", {member.forward_flops:,} FLOP forward, {member.backward_flops:,} backward, "
        f"{member.peak_bytes / 2**20:,.2f} MiB at the peak"
    )
