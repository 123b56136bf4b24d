"""A family: spaces indexed by the hyper-parameters that change H, with their sizes and costs in closed form."""

from modelspace.space.family.family import Family
from modelspace.space.family.law import Law, Piece
from modelspace.space.family.members import Member
from modelspace.space.family.polynomial import Polynomial
from modelspace.space.family.progression import Progression
from modelspace.space.family.solution import Neighbour, Solution

__all__ = ["Family", "Law", "Member", "Neighbour", "Piece", "Polynomial", "Progression", "Solution"]
