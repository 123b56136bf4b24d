"""How text reaches a terminal: nothing that it shows can steer it."""

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from modelspace.errors import printable


class Terminal(Console):
    """Rich's console, for names that are a stranger's: no markup in them, and no control characters.

    Args:
        settings: As ``rich.console.Console`` takes them.
    """

    def __init__(self, **settings: Any):
        super().__init__(highlight=False, markup=False, emoji=False, **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield what is drawn, its text printable."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def say(text: str) -> None:
    """Write a line, or several, to standard output, with control characters written out."""
    sys.stdout.write(f"{printable(text)}\n")
