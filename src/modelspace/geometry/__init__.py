"""The ground between points: slices of a space, what is found along them, and how it bends.

A grid, a path, a bundle of probes is a population, evaluated by the engine like any other.
"""

from modelspace.geometry import slices
from modelspace.geometry._computed import goal_of_run, moments, optimizer_of_run
from modelspace.geometry.association import Association, association
from modelspace.geometry.barriers import Barriers, barriers
from modelspace.geometry.connect import Connection, connect
from modelspace.geometry.curvature import Curvature, curvature, stability_threshold
from modelspace.geometry.landscape import PLANES, Landscape, landscape
from modelspace.geometry.slices import Slice
from modelspace.geometry.trajectory import Trajectory, trajectory

__all__ = [
    "PLANES",
    "Association",
    "Barriers",
    "Connection",
    "Curvature",
    "Landscape",
    "Slice",
    "Trajectory",
    "association",
    "barriers",
    "connect",
    "curvature",
    "goal_of_run",
    "landscape",
    "moments",
    "optimizer_of_run",
    "slices",
    "stability_threshold",
    "trajectory",
]
