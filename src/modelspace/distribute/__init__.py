"""Fits on the machines of a cluster."""

from modelspace.distribute.runner import RayRunner

__all__ = ["RayRunner"]
