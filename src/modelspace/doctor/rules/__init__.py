"""The rules, in the order in which they are tried: page by page, and down each page.

A new rule is a probe under ``@rule(…)`` on one of the pages, and a page of ``docs/rules``.
"""

from modelspace.doctor.rule import Rule
from modelspace.doctor.rules import (
    backward,
    batches,
    gradients,
    heads,
    initialisation,
    losses,
    masks,
    modes,
    optimizers,
    placement,
    randomness,
    redundancy,
    registration,
    shapes,
    symmetry,
    training,
)

_PAGES = (
    *(heads, shapes, losses, batches, masks, modes, registration, gradients, backward, placement),
    *(initialisation, symmetry, redundancy, training, randomness, optimizers),
)
RULES: tuple[Rule, ...] = tuple(
    found for page in _PAGES for found in vars(page).values() if isinstance(found, Rule)
)
