"""A self-contained page: tables and figures with their captions, what it inlines, and the policy for its scripts."""

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from modelspace.atomic import whole_file
from modelspace.report._canvas import DARK, LIGHT


@dataclass(frozen=True)
class Table:
    """A table: its caption, its headings, its rows as text, and how many leading columns are words."""

    caption: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    words: int = 1
    marked: int | None = None


@dataclass(frozen=True)
class Plot:
    """A figure: its caption, what it shows for those who cannot see it, and its numbers as tables."""

    key: str
    caption: str
    alternative: str
    figure: go.Figure
    tables: tuple[Table, ...] = ()

    @property
    def json(self) -> Markup:
        """The figure's JSON, unable to end the script element that holds it."""
        values = json.loads(self.figure.to_json() or "{}")
        text = json.dumps(values, ensure_ascii=True, separators=(",", ":"))
        return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))

    @property
    def height(self) -> int:
        """In pixels."""
        return self.figure.to_plotly_json()["layout"].get("height", 360)


@dataclass(frozen=True)
class Section:
    """A part of a page: its heading, its paragraphs, its figures, its tables."""

    heading: str
    paragraphs: Sequence[str] = ()
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()


def rendered(template: str, **values: Any) -> str:
    """Return a page from a template of this package; every value is escaped.

    Args:
        template: Its name. It is given ``style``, ``scripts`` and their ``hashes`` beside the values.
        **values: What the template shows.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    swaps = {light: DARK[name] for name, light in LIGHT.items()}
    draw = _source("draw.js").replace("{}", json.dumps(swaps), 1)
    scripts = {"plotly": _script(get_plotlyjs()), "draw": _script(draw)}
    return environment.get_template(template).render(
        style=Markup(_source("style.css")),
        scripts=scripts,
        hashes=" ".join(_allowed(text) for text in scripts.values()),
        **values,
    )


def write(text: str, path: str | os.PathLike[str]) -> None:
    """Write a page, whole or not at all.

    Raises:
        ModelspaceError: the place can't be written to.
    """
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _source(name: str) -> str:
    """A file of this package: a template, a style sheet or a script."""
    return (files("modelspace.report") / name).read_text(encoding="utf-8")


def _script(text: str) -> Markup:
    """A script's source, unable to end its element: within a string, an escaped slash is a slash."""
    return Markup(text.replace("</script", "<\\/script"))


def _allowed(text: str) -> str:
    """The script's hash, as a content security policy takes it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
