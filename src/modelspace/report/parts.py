"""What a page is laid out from: tables of text, and figures with their captions and numbers."""

import json
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup


@dataclass(frozen=True)
class Table:
    """A table: its caption, its headings, its rows as text, and how many leading columns are words."""

    caption: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    words: int = 1
    marked: int | None = None


@dataclass(frozen=True)
class Plot:
    """A figure: its caption, what it shows for those who cannot see it, and its numbers as tables."""

    key: str
    caption: str
    alternative: str
    figure: go.Figure
    tables: tuple[Table, ...]

    @property
    def json(self) -> Markup:
        """The figure's JSON, unable to end the script element that holds it."""
        return _embedded(json.loads(self.figure.to_json() or "{}"))

    @property
    def height(self) -> int:
        """In pixels."""
        return int(self.figure.layout.height or 360)


def _embedded(value: Any) -> Markup:
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
