"""A family: spaces indexed by the hyper-parameters that change H, with their sizes and costs in closed form."""

from modelspace.family._costs import Member
from modelspace.family._family import Family
from modelspace.family._law import Law, Piece, Progression
from modelspace.family._solve import Neighbour, Solution

__all__ = ["Family", "Law", "Member", "Neighbour", "Piece", "Progression", "Solution"]
