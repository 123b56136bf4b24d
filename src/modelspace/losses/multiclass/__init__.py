"""Losses of C scores and one of C classes."""
