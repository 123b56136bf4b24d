"""Losses of a real output and a real label."""
