"""Networks to try things on. Their code counts as a user's: it is read, hashed and pointed to as any other."""

from modelspace.examples.dummynet import DummyNet

__all__ = ["DummyNet"]
