"""What a verification found, as one frozen record and a page of plain text."""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from modelspace.engine import Lowering, Plan
from modelspace.verify.errors import Errors


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
        lines = [
            f"{self.space}: n = {self.dimension:,}; {self.members} members, {self.steps} steps, "
            f"batch {self.batch_size}, {self.loss}, {self.data}",
            "",
            *_errors(self),
            "",
            *_operations(self),
            "",
            *_speed(self),
            "",
            _verdict(self),
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"


def _errors(found: Verification) -> list[str]:
    shown = _shown(found.steps)
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


def _row(each: Errors, shown: list[int]) -> str:
    values = "".join(f"{each.points[i - 1]:>9.1e}" for i in shown)
    mark = "" if each.growth is None else "  the network itself grows rounding to this"
    mark = mark if each.within else f"  exceeded ({each.way})"
    limit = f"{max(each.allowed):>9.0e}"
    return (
        f"  {each.dtype:<8} {each.optimizer:<8}{values}{each.buffers:>9.1e}{each.outputs:>9.1e}{limit}{mark}"
    )


def _shown(steps: int) -> list[int]:
    """A few of the steps 1 … n, the first and the last among them."""
    return sorted({1, 2, max(1, steps // 2), steps} & set(range(1, steps + 1)))


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
