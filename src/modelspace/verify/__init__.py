"""Holding a population of the user's own architecture against the plain PyTorch loop."""

from modelspace.verify.record import Errors, Verification
from modelspace.verify.verify import verify

__all__ = ["Errors", "Verification", "verify"]
