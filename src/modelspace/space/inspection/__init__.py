"""What people ask of an architecture before they train it: a tree of what it holds and costs, and what stands out."""

from modelspace.space.inspection.batch import Sample
from modelspace.space.inspection.guess import guessed
from modelspace.space.inspection.highlights import highlights
from modelspace.space.inspection.record import Inspection, inspect
from modelspace.space.inspection.tree import Node, tree

__all__ = ["Inspection", "Node", "Sample", "guessed", "highlights", "inspect", "tree"]
