"""The record of a verification: how far the two sides are apart, how far they may be, and its page of plain text."""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

import torch

from modelspace.engine import Lowering, Plan

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}
_GROWTH = 10.0  # times as far apart as two plain loops whose numbers differ by rounding


@dataclass(frozen=True)
class Errors:
    """How far members trained as a population are from the same members trained plainly.

    Each number is the largest over members and ways of computing.

    Attributes:
        dtype: The type of the coordinates.
        optimizer: What both sides were trained with.
        points: After each step, ‖p − q‖ / ‖q‖, q the plain loop's point.
        losses: Before each step, |l − m| / |m|.
        buffers: After the last step, the same of all buffers together (a single one may be nothing but rounding
            noise: the mean of what has mean zero).
        outputs: After the last step, of the outputs in evaluation mode.
        tolerance: What ``points``, ``buffers`` and ``outputs`` may be at most, unless the network grows rounding.
        growth: How far apart plain loops come whose parameters are disturbed by rounding before each step, after each
            step, then of buffers and outputs; None where nothing exceeded the tolerance.
        way: The way of computing that is farthest off.
    """

    dtype: str
    optimizer: str
    points: tuple[float, ...]
    losses: tuple[float, ...]
    buffers: float
    outputs: float
    tolerance: float
    growth: tuple[float, ...] | None = None
    way: str = "vmap"

    @property
    def compared(self) -> tuple[float, ...]:
        """Points, buffers and outputs; infinite where one is not a number."""
        return tuple(v if v == v else float("inf") for v in (*self.points, self.buffers, self.outputs))

    @property
    def largest(self) -> float:
        """The largest of them."""
        return max(self.compared)

    @property
    def allowed(self) -> tuple[float, ...]:
        """What each of them may be: the tolerance, or ten times what the network makes of rounding."""
        growth = self.growth or (0.0,) * len(self.compared)
        return tuple(max(self.tolerance, _GROWTH * g) for g in growth)

    @property
    def within(self) -> bool:
        """Whether each is what it may be."""
        return self.excess <= 1

    @property
    def excess(self) -> float:
        """The largest of them over what it may be."""
        return max(value / limit for value, limit in zip(self.compared, self.allowed, strict=True))


@dataclass(frozen=True)
class Verification:
    """What ``verify`` found.

    Attributes:
        space: The architecture's name.
        dimension: n.
        members: How many were trained both ways.
        steps: How many updates each made.
        batch_size: Samples a step.
        data: The data's name.
        loss: The loss's name.
        lowering: ``"vmap"``, or ``"loop"`` where members are computed one at a time.
        compiled: Whether the compiled step was among the ways.
        ways: How the population was computed, each held against the plain loop.
        fallbacks: The reason for the loop, or the operations that alone are computed member by member.
        operations: How each operation of the forward is carried out, by name.
        errors: For each type and optimizer; a type in which the architecture itself does not run is left out.
        left_out: Why a type was left out, by its name.
        notes: What else a reader has to know to judge.
        refused: Why ``fit`` refuses the architecture; None where it does not.
        parted: The first operation whose results differ, with its line; None where none does.
        plan: How 64 members would be trained.
        loop_seconds: A step of the plain PyTorch loop, one member.
        population_seconds: A step of the population, over its members.
    """

    space: str
    dimension: int
    members: int
    steps: int
    batch_size: int
    data: str
    loss: str
    lowering: Lowering
    compiled: bool
    ways: tuple[str, ...]
    fallbacks: tuple[str, ...]
    operations: dict[str, str]
    errors: tuple[Errors, ...]
    left_out: dict[str, str]
    notes: tuple[str, ...]
    refused: str | None
    parted: str | None
    plan: Plan
    loop_seconds: float
    population_seconds: float

    @property
    def equivalent(self) -> bool:
        """Whether everything was within what it may be, and ``fit`` takes the architecture."""
        return bool(self.errors) and self.refused is None and all(each.within for each in self.errors)

    @property
    def max_relative_error(self) -> float:
        """The largest relative error of any type and optimizer."""
        return max(each.largest for each in self.errors)

    @property
    def speedup(self) -> float:
        """The plain loop's time over the population's."""
        return self.loop_seconds / self.population_seconds

    def __repr__(self) -> str:
        head = (
            f"{self.space}: n = {self.dimension:,}; {self.members} members, {self.steps} steps, "
            f"batch {self.batch_size}, {self.loss}, {self.data}"
        )
        parts = [[head], _errors(self), _operations(self), _speed(self), [_verdict(self)]]
        return "\n\n".join("\n".join(part) for part in parts)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"


def _errors(found: Verification) -> list[str]:
    # A few of the steps 1 … n, the first and the last among them.
    steps = found.steps
    shown = sorted({1, 2, max(1, steps // 2), steps} & set(range(1, steps + 1)))
    ways = ", ".join(found.ways)
    lines = [
        "relative error against your own class in an ordinary PyTorch loop with torch.optim, the largest over the",
        f"members and the ways of computing them ({ways}): of the points after a step, of the buffers and",
        "of the outputs in evaluation mode after the last",
        f"  {'step':<17}" + "".join(f"{i:>9}" for i in shown) + f"{'buffers':>9}{'outputs':>9}{'allowed':>9}",
    ]
    lines += [_row(each, shown) for each in found.errors]
    lines += [
        f"  {name}: left out, the architecture itself fails: {why}" for name, why in found.left_out.items()
    ]
    lines += [f"  {note}" for note in found.notes]
    return lines


def _row(errors: Errors, shown: list[int]) -> str:
    values = [*(errors.points[i - 1] for i in shown), errors.buffers, errors.outputs]
    mark = "" if errors.growth is None else "  the network itself grows rounding to this"
    mark = mark if errors.within else f"  exceeded ({errors.way})"
    numbers = "".join(f"{value:>9.1e}" for value in values)
    return f"  {errors.dtype:<8} {errors.optimizer:<8}{numbers}{max(errors.allowed):>9.0e}{mark}"


def _operations(found: Verification) -> list[str]:
    if found.lowering == "loop":
        return [f"members are computed one after the other: {', '.join(found.fallbacks)}"]
    kinds: dict[str, list[str]] = {}
    for name, how in found.operations.items():
        kinds.setdefault(how, []).append(name)
    ordered = sorted(kinds, key=lambda how: (how == "vmap", how))
    lines = ["operations of the forward"]
    width = max((len(how) for how in ordered), default=0)
    for how in ordered:
        lines += _wrapped(f"  {how:<{width}}  ", kinds[how])
    return lines


def _wrapped(lead: str, names: Iterable[str]) -> list[str]:
    lines, line = [], lead
    for name in sorted(names):
        if len(line) + len(name) > 100:
            lines.append(line.rstrip(", ") + ",")
            line = " " * len(lead)
        line += f"{name}, "
    return [*lines, line.rstrip(", ")]


def _speed(found: Verification) -> list[str]:
    loop, ours = found.loop_seconds * 1e3, found.population_seconds * 1e3
    return [
        f"a step at batch {found.batch_size}, K = 64, not compiled: {loop:.3g} ms a member in the plain loop, "
        f"{ours:.3g} ms in the population: {found.speedup:.1f} ×",
        f"  {found.plan}",
    ]


def _verdict(found: Verification) -> str:
    if found.equivalent:
        how = "compiled population" if found.compiled else "population"
        return f"EQUIVALENT: the {how} and the plain loop agree to {found.max_relative_error:.1e}"
    lines = [f"NOT EQUIVALENT: relative error up to {found.max_relative_error:.1e}"]
    if found.parted:
        lines.append(f"the sides part first at {found.parted}")
    if found.refused:
        lines.append(f"fit refuses it: {found.refused}")
    return "; ".join(lines)
