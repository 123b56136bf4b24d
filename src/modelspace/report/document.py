"""A self-contained page: what every one of ours inlines, and the policy that allows its scripts and no others."""

import base64
import hashlib
import json
import os
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from modelspace.atomic import whole_file
from modelspace.report.canvas import DARK, LIGHT


def rendered(template: str, **values: Any) -> str:
    """A page from a template of this package; every value is escaped.

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
    scripts = {
        "plotly": _script(get_plotlyjs()),
        "draw": _script(_source("draw.js").replace("{}", json.dumps(swaps), 1)),
    }
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
