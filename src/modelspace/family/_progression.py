"""Where a law holds along one hyper-parameter: an arithmetic progression, and which ones to try."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd


@dataclass(frozen=True)
class Progression:
    """The integers start, start + step, start + 2·step and so on.

    Attributes:
        start: The first.
        step: The difference, at least 1.
        stop: The last one allowed; without end where None.
    """

    start: int
    step: int = 1
    stop: int | None = None

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int) or isinstance(value, bool):
            return False
        within = value >= self.start and (self.stop is None or value <= self.stop)
        return within and (value - self.start) % self.step == 0

    def __getitem__(self, index: int) -> int:
        return self.start + index * self.step

    def condition(self, name: str) -> str:
        """``width ≡ 0 (mod 8)``, ``width ≥ 16``; empty where it says nothing that isn't clear."""
        parts = []
        if self.step > 1:
            parts.append(f"{name} ≡ {self.start % self.step} (mod {self.step})")
        if self.stop is not None:
            parts.append(f"{self.start} ≤ {name} ≤ {self.stop}")
        elif self.start > max(1, self.step):
            parts.append(f"{name} ≥ {self.start}")
        return ", ".join(parts)


def candidates(values: Sequence[int], factor: int = 1) -> Iterator[Progression]:
    """The progressions along which a law may hold, the finest first, each through all the values.

    What a value must be divisible by (heads, groups, a rounding) is seldom known from outside, but it divides
    the distances between the values that the user lists. So each of their common divisors is tried as a
    step: first from small members, which are quick to trace, then from the smallest one listed, since small
    members may be special.

    Args:
        values: Integers, equal modulo ``factor``.
        factor: What every step is a multiple of.

    Example:
        >>> [(p.start, p.step) for p in candidates([4, 8])]
        [(1, 1), (4, 1), (2, 2), (4, 2), (4, 4)]
    """
    lowest = min(values)
    spread = gcd(*(v - lowest for v in values)) or abs(lowest) or 1
    steps = sorted({factor * d for d in divisors(spread) if _one_class(values, factor * d)})
    seen = set()
    for step in steps:
        for start in (min(1, lowest), lowest):
            found = Progression(start + (lowest - start) % step, step)
            if found not in seen:
                seen.add(found)
                yield found


def divisors(number: int, limit: int = 128) -> list[int]:
    """The divisors of a positive number up to a limit, ascending."""
    return [d for d in range(1, min(number, limit) + 1) if number % d == 0]


def _one_class(values: Sequence[int], step: int) -> bool:
    return len({v % step for v in values}) == 1
