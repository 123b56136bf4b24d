"""What every self-contained page needs: its sources inlined, and the hashes under which its policy allows scripts."""

import base64
import hashlib
from importlib.resources import files

from markupsafe import Markup


def source(name: str) -> str:
    """A file of this package: a template, a style sheet or a script."""
    return (files("modelspace.report") / name).read_text(encoding="utf-8")


def script(text: str) -> Markup:
    """A script's source, unable to end its element: within a string, an escaped slash is a slash."""
    return Markup(text.replace("</script", "<\\/script"))


def allowed(text: str) -> str:
    """The script's hash, as a content security policy takes it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
