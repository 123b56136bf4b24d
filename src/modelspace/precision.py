"""Number formats of a training step, by Lightning's names: one vocabulary for what computes one and what counts it.

``"32"`` is the module's own type: float32, or the float64 or bfloat16 that it was built with. ``"64"`` is all in
double. ``"tf32"`` lets an NVIDIA GPU round the inputs of float32 products to 10 bits of mantissa. ``"bf16-mixed"``
and ``"16-mixed"`` keep the parameters' type and do matrix products in 16 bits, as PyTorch's automatic mixed precision
does. ``"bf16-true"`` and ``"16-true"`` have everything in 16 bits; to train so, build the space with this ``dtype``.
"""

from typing import Literal, NamedTuple, get_args

import torch

from modelspace.errors import unknown_name


class Format(NamedTuple):
    """The types of a number format.

    Attributes:
        parameters: What the parameters, and all that is computed with them, are cast to; None where they stay.
        products: The type of matrix products where it is not the parameters': that of autocast.
    """

    parameters: torch.dtype | None = None
    products: torch.dtype | None = None


Precision = Literal["32", "64", "tf32", "bf16-mixed", "16-mixed"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
FORMATS: dict[str, Format] = {
    "32": Format(),
    "64": Format(torch.float64),
    "tf32": Format(),
    "bf16-mixed": Format(products=torch.bfloat16),
    "16-mixed": Format(products=torch.float16),
    "bf16-true": Format(torch.bfloat16),
    "16-true": Format(torch.float16),
}


def precision_named(precision: Precision | Literal[32, 64]) -> Precision:
    """Return a precision that a fit computes in, by its name or its number of bits.

    Raises:
        ModelspaceError: an unknown name.
    """
    for known in PRECISIONS:
        if str(precision) == known:
            return known
    raise unknown_name("precision", str(precision), PRECISIONS)


def format_named(precision: str | int) -> Format:
    """Return the types of a number format, by its name or its number of bits.

    Raises:
        ModelspaceError: an unknown name.
    """
    if str(precision) not in FORMATS:
        raise unknown_name("precision", str(precision), FORMATS)
    return FORMATS[str(precision)]
