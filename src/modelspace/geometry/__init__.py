"""The ground between points: slices of a space, what is found along them, and how it bends.

A grid, a path, a bundle of probes is a population, evaluated by the engine like any other.
"""

from modelspace.geometry import slices
from modelspace.geometry._statistics import normalised, recomputed
from modelspace.geometry.association import Association, association
from modelspace.geometry.curvature import Curvature, Density, curvature, stability_threshold
from modelspace.geometry.landscape import Landscape, landscape
from modelspace.geometry.slices import Slice

__all__ = [
    "Association",
    "Curvature",
    "Density",
    "Landscape",
    "Slice",
    "association",
    "curvature",
    "landscape",
    "normalised",
    "recomputed",
    "slices",
    "stability_threshold",
]
