"""A space of functions: one architecture with fixed hyper-parameters, before anything is trained."""

from modelspace.cost import Anatomy, Layer
from modelspace.space._card import facts
from modelspace.space._layout import Block, Layout, layout_of
from modelspace.space._space import ModelSpace, Reading, samples_as

__all__ = ["Anatomy", "Block", "Layer", "Layout", "ModelSpace", "Reading", "facts", "layout_of", "samples_as"]
