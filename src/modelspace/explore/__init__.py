"""The whole journey through one space."""

from modelspace.explore.journey import Distribution, Exploration, explore

__all__ = ["Distribution", "Exploration", "explore"]
