"""The whole journey through one space."""

from modelspace.explore.journey import Exploration, Interrupted, explore

__all__ = ["Exploration", "Interrupted", "explore"]
