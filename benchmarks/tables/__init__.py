"""A run's results as tables for the terminal."""

from benchmarks.tables.page import draw, parts

__all__ = ["draw", "parts"]
