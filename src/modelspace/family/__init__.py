"""A family: spaces indexed by the hyper-parameters that change H, with their sizes and costs in closed form."""

from modelspace.family._family import Family
from modelspace.family._law import Law, Piece
from modelspace.family._members import Member
from modelspace.family._polynomial import Polynomial
from modelspace.family._progression import Progression
from modelspace.family._solution import Neighbour, Solution

__all__ = ["Family", "Law", "Member", "Neighbour", "Piece", "Polynomial", "Progression", "Solution"]
