"""A self-contained page: tables and figures with their captions, what it inlines, and the policy for its scripts.

Most pages are a ``Page``, which is plain values too: it can be kept beside its HTML and drawn again.
"""

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from modelspace.atomic import whole_file
from modelspace.errors import ModelspaceError, first_line
from modelspace.plain import plain, structured
from modelspace.progress import notice
from modelspace.report._canvas import DARK, LIGHT
from modelspace.report._picture import ENDINGS, write_picture
from modelspace.report._record import KeptPlot, KeptSection, Table


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
    """A part of a page: its heading, its facts (name and value), its paragraphs, its figures, its tables."""

    heading: str
    paragraphs: Sequence[str] = ()
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()
    facts: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Page:
    """A page: what kind it is, its title, what it says first, and its sections.

    Attributes:
        kind: Above the title.
        title: Itself.
        verdict: Sentences that stand out.
        sections: In their order.
        digits: n, where the page is about one space: H = { f_p : p ∈ ℝⁿ } stands below the title.
        highlights: Sentences of a list.
    """

    kind: str
    title: str
    verdict: Sequence[str]
    sections: Sequence[Section]
    digits: str = ""
    highlights: Sequence[str] = ()

    @property
    def plots(self) -> list[Plot]:
        """All figures."""
        return [plot for section in self.sections for plot in section.plots]

    @property
    def html(self) -> str:
        """The whole document; every string of it is escaped."""
        return rendered("sections.html.j2", page=self)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the page, whole or not at all.

        Raises:
            ModelspaceError: the place can't be written to.
        """
        write(self.html, path)

    def keep(self, folder: Path) -> None:
        """Write the page into a folder as ``report.html``, and as ``page.json``, from which it can be drawn again.

        Raises:
            ModelspaceError: the folder can't be written to.
        """
        plainly = plain(replace(self, sections=kept(self.sections)))
        write(json.dumps(plainly, allow_nan=False), folder / "page.json")
        self.write(folder / "report.html")

    @classmethod
    def kept(cls, folder: Path) -> "Page":
        """Return the page that ``keep`` wrote.

        Raises:
            ModelspaceError: there is none, or it is damaged.
        """
        path = folder / "page.json"
        try:
            made = structured(json.loads(path.read_text(encoding="utf-8")), _Kept, "page")
            return cls(**{**vars(made), "sections": drawn(made.sections)})
        except (OSError, ValueError) as error:
            raise ModelspaceError(f"{path} is no page of this program's: {first_line(error)}") from error


@dataclass(frozen=True)
class _Kept:
    """A page as ``page.json`` has it."""

    kind: str
    title: str
    verdict: list[str]
    sections: list[KeptSection]
    digits: str
    highlights: list[str]


def kept(sections: Sequence[Section]) -> tuple[KeptSection, ...]:
    """Return sections with their figures as plain values."""
    return tuple(
        KeptSection(
            s.heading,
            tuple(s.paragraphs),
            tuple(
                KeptPlot(p.key, p.caption, p.alternative, json.loads(p.figure.to_json() or "{}"), p.tables)
                for p in s.plots
            ),
            tuple(s.tables),
            tuple(s.facts),
        )
        for s in sections
    )


def drawn(sections: Sequence[KeptSection]) -> list[Section]:
    """Return sections with figures again."""
    return [
        Section(**{**vars(s), "plots": [Plot(**{**vars(p), "figure": go.Figure(p.figure)}) for p in s.plots]})
        for s in sections
    ]


def write_figure(figure: go.Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure: a page (.html) that needs no network, or a picture for a paper (.png, .svg, .pdf).

    Args:
        figure: One of this package's.
        path: Its name says which; written whole or not at all.

    Raises:
        ModelspaceError: another ending, a figure that only a page can show, or the place can't be written to.
    """
    ending = Path(path).suffix.lower()
    if ending in ENDINGS:
        write_picture(figure, path)
    elif ending in (".html", ".htm"):
        write(figure.to_html(include_plotlyjs=True, full_html=True), path)
    else:
        raise ModelspaceError(
            f"a figure's name ends in .html, {', '.join(ENDINGS)}; received {os.fspath(path)}"
        )


def write_pictures(plots: Sequence[Plot], folder: Path) -> list[Path]:
    """Write each figure as PNG and SVG into a folder; return where. What only a page can show is left out, and said.

    Raises:
        ModelspaceError: the folder can't be written to.
    """
    made = []
    for plot in plots:
        if any(trace.type == "treemap" for trace in plot.figure.data):
            notice(f"{plot.key}: a treemap is in the page alone")
            continue
        for ending in (".png", ".svg"):
            made.append(folder / f"{plot.key}{ending}")
            write_picture(plot.figure, made[-1])
    return made


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
