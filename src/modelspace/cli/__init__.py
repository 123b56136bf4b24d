"""The command line: one verb a question. ``modelspace --help`` lists them."""

from modelspace.cli.main import main

__all__ = ["main"]
