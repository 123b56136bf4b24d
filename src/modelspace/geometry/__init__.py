"""The ground between points: slices of a space, what is found along them, and how it bends.

A grid, a path, a bundle of probes is a population, evaluated by the engine like any other.
"""

from modelspace.geometry.association import Association, association
from modelspace.geometry.curvature import Curvature, Density, curvature, stability_threshold

__all__ = ["Association", "Curvature", "Density", "association", "curvature", "stability_threshold"]
