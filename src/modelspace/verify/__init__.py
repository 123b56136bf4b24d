"""Holding a population of the user's own architecture against the plain PyTorch loop."""

from modelspace.verify.errors import Errors
from modelspace.verify.verification import Verification, verify

__all__ = ["Errors", "Verification", "verify"]
