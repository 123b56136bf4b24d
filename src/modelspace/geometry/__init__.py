"""The ground between points: slices of a space, what is found along them, and how it bends.

A grid, a path, a bundle of probes is a population, evaluated by the engine like any other.
"""

__all__: list[str] = []
