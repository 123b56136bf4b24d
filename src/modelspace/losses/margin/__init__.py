"""Losses of two classes that are a function of the margin alone."""
