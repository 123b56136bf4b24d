"""How two architectures differ: which modules, shapes, counts and costs."""

from modelspace.space.difference.record import Change, Difference, diff

__all__ = ["Change", "Difference", "diff"]
