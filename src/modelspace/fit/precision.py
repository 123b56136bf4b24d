"""What a fit does in each number format; their names are in ``modelspace.precision``.

float16 has a narrow range, so each member's loss is multiplied by a scale of its own before the backward, and the
gradient divided by it after: halved when a gradient overflows (that step is left out), doubled after 2000 steps
without one. Source: Micikevicius et al., "Mixed precision training", ICLR 2018; ``torch.amp.GradScaler``.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from modelspace.errors import ModelspaceError
from modelspace.population import Population
from modelspace.precision import FORMATS, Precision

FIRST_SCALE = 2.0**16
GROWTH_STEPS = 2000
_LEAST_SCALE = 2.0**-24  # below this no gradient can be told from zero: the member has diverged


def products_of(precision: Precision, device: torch.device) -> torch.dtype | None:
    """Return the type of matrix products, where it is not the coordinates' own.

    Raises:
        ModelspaceError: TF32 on a device that has none.
    """
    if precision == "tf32" and device.type != "cuda":
        raise ModelspaceError(f"tf32 is a format of NVIDIA GPUs, and the members are on {device}")
    return FORMATS[precision].products


def coordinates_in(precision: Precision, population: Population) -> Population:
    """Return the members as the precision asks: with 64 the same points in double."""
    space = population.space
    if precision != "64" or space.dtype in (torch.float64, torch.complex128):
        return population
    return population.in_dtype(torch.float64)


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Within the block, float32 products on a GPU are computed as the precision says."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def scaling(members: int, dtype: torch.dtype | None, device: torch.device) -> dict[str, Tensor]:
    """The loss scales, and how many steps each has gone without overflow; none but for float16."""
    if dtype is not torch.float16:
        return {}
    return {
        "scale": torch.full((members,), FIRST_SCALE, device=device),
        "good": torch.zeros(members, dtype=torch.int64, device=device),
    }


def rescaled(scaling: dict[str, Tensor], finite: Tensor) -> dict[str, Tensor]:
    """The scales after a step whose gradients were finite, or not, ``[c]``."""
    good = torch.where(finite, scaling["good"] + 1, 0)
    grown = good == GROWTH_STEPS
    factor = torch.where(finite, torch.where(grown, 2.0, 1.0), 0.5)
    return {"scale": scaling["scale"] * factor, "good": torch.where(grown, 0, good)}


def can_go_on(scaling: dict[str, Tensor]) -> Tensor:
    """Whether a member's scale still lets a gradient through, ``[c]``."""
    return scaling["scale"] > _LEAST_SCALE
