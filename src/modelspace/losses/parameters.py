"""Ranges of the parameters that several losses share by name."""

from modelspace.hyperparameters import Range

GAMMA = Range("focusing exponent", "a number of at least 0", 0.0)
EPSILON = Range("loss parameter", "a number of at least 0", 0.0)
SCALE = Range("scale", "a positive number", 0.0, low_included=False)
DELTA = Range("threshold", "a positive number", 0.0, low_included=False)
TEMPERATURE = Range("temperature", "a positive number", 0.0, low_included=False)
