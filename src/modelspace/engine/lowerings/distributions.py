"""``torch.distributions`` without their checks of the parameters' values.

A check raises for all members at once, where one has diverged; without it that member's loss is not a number, and it
alone is frozen. And some checks ask a tensor for its value, which nothing can under ``vmap``.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch.distributions import Distribution


@contextmanager
def unchecked_distributions() -> Iterator[None]:
    """Within the block, distributions made without ``validate_args`` don't validate."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)
