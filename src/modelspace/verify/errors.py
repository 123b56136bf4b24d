"""How far the two sides are apart, and how far they may be."""

from dataclasses import dataclass

import torch
from torch import Tensor

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


def relative_error(received: Tensor, expected: Tensor) -> float:
    """‖received − expected‖ / ‖expected‖, the largest over the rows."""
    wide = torch.complex128 if expected.is_complex() else torch.float64
    a, b = (x.reshape(len(x), -1).to(wide) for x in (received, expected))
    return float(((a - b).norm(dim=1) / b.norm(dim=1).clamp_min(1e-30)).max()) if a.numel() else 0.0
