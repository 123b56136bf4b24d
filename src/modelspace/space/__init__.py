"""A space of functions: one architecture with fixed hyper-parameters, before anything is trained."""

from modelspace.cost import Anatomy, Layer
from modelspace.space.layout import Block, Layout
from modelspace.space.space import ModelSpace, Reading, samples_as

__all__ = ["Anatomy", "Block", "Layer", "Layout", "ModelSpace", "Reading", "samples_as"]
