"""Two points of a space, or of two spaces, held against each other."""

from modelspace.compare.comparison import BlockDistance, Comparison, compare

__all__ = ["BlockDistance", "Comparison", "compare"]
