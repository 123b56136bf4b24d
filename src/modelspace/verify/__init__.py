"""Holding a population of the user's own architecture against the plain PyTorch loop."""

from modelspace.verify.errors import Errors
from modelspace.verify.record import Verification
from modelspace.verify.verification import verify

__all__ = ["Errors", "Verification", "verify"]
