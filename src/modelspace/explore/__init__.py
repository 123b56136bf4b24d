"""The whole journey through one space."""

from modelspace.explore.journey import Distribution, Exploration, Interrupted, explore

__all__ = ["Distribution", "Exploration", "Interrupted", "explore"]
