"""The site: these pages, README, CONTRIBUTING and CHANGELOG, and a page of every public face: ``make docs``.

Links are written as they work in the repository; here they lead to the site's own pages, to a copy of a file that has
none, or, of a folder, nowhere. Warnings are errors, so a link without a target fails.
"""

import inspect
import re
from importlib import import_module
from os.path import relpath
from pathlib import Path
from pkgutil import iter_modules

from sphinx.domains.python import PyObject

import modelspace
from modelspace.losses import Loss, Properties

DOCS = Path(__file__).parent
ROOT = DOCS.parent
# Pages that live elsewhere: what is here comes after them.
ELSEWHERE = {"index": "README.md", "contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}
# Pages that stand below another one.
BELOW = {"doctor": "rules/*", "contributing": "api/inside/*"}

project = "modelspace"
version = release = modelspace.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 4
default_role = "literal"
add_module_names = False
maximum_signature_line_length = 88
python_display_short_literal_types = True
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # an override that says nothing is what it overrides
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_custom_sections = ["Source"]
napoleon_use_ivar = True
napoleon_attr_annotations = False  # the signature has them
viewcode_line_numbers = True
html_theme = "furo"
html_title = f"modelspace {release}"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_show_sphinx = html_copy_source = False
next(field for field in PyObject.doc_field_types if field.name == "variable").label = "Attributes"


def _linked(text, page):
    """Lead the links of a page in the repository to where they lead in the site."""
    start = page.parent if page.is_relative_to(DOCS) else DOCS
    here = {ROOT / file: DOCS / f"{name}.md" for name, file in ELSEWHERE.items()}

    def link(match):
        words, target, anchor = match.groups()
        path = (page.parent / target).resolve()
        if path.is_dir():
            return words
        return (
            f"[{words}]({relpath(here.get(path, path), start)}{anchor or ''})" if path.exists() else match[0]
        )

    return re.sub(r"(?<!`)\[([^\]\[]*)\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)", link, text)


def _read(app, name, source):
    """Read a page, or what stands for it elsewhere, with the pages below it."""
    page = Path(app.env.doc2path(name))
    if page.suffix == ".md":
        if name in ELSEWHERE:
            page = ROOT / ELSEWHERE[name]
            app.env.note_dependency(page, docname=name)
            source[0] = page.read_text(encoding="utf-8") + source[0]
        source[0] = _linked(source[0], page)
    if name in BELOW:
        source[0] += f"\n```{{toctree}}\n:hidden:\n:glob:\n\n{BELOW[name]}\n```\n"


def _add_formula(app, what, name, value, options, lines):
    """Put a loss's formula below its first line."""
    if inspect.isclass(value) and issubclass(value, Loss) and value.properties is not None:
        lines[1:1] = ["", f"``{value().properties.formula}``"]


def _escape(app, what, name, value, options, lines):
    """Escape what is markup to reStructuredText and none to us: |x|, and a star by itself."""
    code, doctest = None, False  # how far the paragraph is indented that a block of code follows
    for i, line in enumerate(lines):
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        code = None if code is not None and text and indent <= code else code
        doctest = bool(text) and (doctest or text.startswith(">>>"))
        if code is None and not doctest:
            parts = re.split(
                r"(``.+?``|(?<![\w*])\*\w(?:[^*|]*\w)?\*(?![\w*]))", line
            )  # code and emphasis stay
            parts[::2] = [re.sub(r"(?<!\\)(?!^\s*\* )([|*])", r"\\\1", part) for part in parts[::2]]
            lines[i] = "".join(parts)
            code = indent if text.endswith("::") else None


def _bases(kind):
    """Find what a class extends: public classes, and those of its private ones."""
    bases = []
    for base in kind.__bases__:
        bases += _bases(base) if base.__name__.startswith("_") else [base] if base is not object else []
    return bases


def _extends(app, name, kind, options, bases):
    bases[:] = _bases(kind)


def _leave_out(app, what, name, value, skip, options):
    """Leave out the properties of each single loss: the table of losses.md has them."""
    return True if isinstance(value, Properties) else None


def _is_documented(value):
    return inspect.isclass(value) or inspect.isroutine(value)


def _reference(name, value, homes):
    home = homes.get(id(value))
    return f":py:obj:`{name} <{home}.{name}>`" if home else f"``{name}``"


def _page(name, face, homes):
    """Write the page of a face: what ``modelspace`` itself has comes first, then classes, then functions."""
    every = [key for key, value in vars(face).items() if key[0] != "_" and homes.get(id(value)) == name]
    values = {key: getattr(face, key) for key in getattr(face, "__all__", every)}
    own = {key: value for key, value in values.items() if homes.get(id(value)) == name}
    lines = [name, "=" * len(name), "", f".. automodule:: {name}", ""]
    for key in sorted(own, key=lambda key: (key not in modelspace.__all__, not inspect.isclass(own[key]))):
        is_class = inspect.isclass(own[key])
        lines.append(f".. auto{'class' if is_class else 'function'}:: {name}.{key}")
        lines += ["   :members:"] if is_class else []
        lines += ["   :show-inheritance:"] if is_class and _bases(own[key]) else []
        lines.append("")
    others = [_reference(key, value, homes) for key, value in values.items() if key not in own]
    return "\n".join([*lines, f"Also here: {', '.join(others)}." if others else "", ""])


def _overview(top, homes):
    """Write the page of ``modelspace`` itself: a line a name, which leads to the page of its face."""
    lines = [
        "modelspace",
        "=" * 10,
        "",
        ".. automodule:: modelspace",
        "",
        ".. list-table::",
        "   :widths: 1 4",
        "",
    ]
    for name, value in top.items():
        if not inspect.ismodule(value):
            first = inspect.getdoc(value).splitlines()[0]
            lines += [f"   * - {_reference(name, value, homes)}", f"     - {first}"]
    return "\n".join([*lines, "", ".. toctree::", "   :hidden:", "   :glob:", "", "   *", ""])


def _write_api(app):
    """Write the pages of the API: each public object on that of the face where it is made, and nowhere else."""
    rooms = [f"modelspace.{room.name}" for room in iter_modules(modelspace.__path__) if room.name != "cli"]
    faces, homes = {name: import_module(name) for name in rooms}, {}
    for name, face in faces.items():
        made = (value for value in vars(face).values() if _is_documented(value))
        homes |= {id(value): name for value in made if f"{value.__module__}.".startswith(f"{name}.")}
    top = {name: getattr(modelspace, name) for name in sorted(modelspace.__all__, key=str.lower)}
    public = {homes.get(id(value), getattr(value, "__name__", "")) for value in top.values()}
    pages = {"modelspace": _overview(top, homes)}
    for name, face in faces.items():
        folder = "" if name in public else "inside/"
        pages[folder + name.removeprefix("modelspace.")] = _page(name, face, homes)
    for name, text in pages.items():
        page = DOCS / "api" / f"{name}.rst"
        page.parent.mkdir(parents=True, exist_ok=True)
        if (
            not page.exists() or page.read_text(encoding="utf-8") != text
        ):  # what is as it was isn't built again
            page.write_text(text, encoding="utf-8")
    for page in DOCS.glob("api/**/*.rst"):
        if page.relative_to(DOCS / "api").with_suffix("").as_posix() not in pages:
            page.unlink()


def setup(app):
    """Connect all this to Sphinx."""
    app.connect("builder-inited", _write_api)
    app.connect("source-read", _read)
    app.connect("autodoc-process-docstring", _add_formula)
    app.connect("autodoc-process-docstring", _escape)
    app.connect("autodoc-process-bases", _extends)
    app.connect("autodoc-skip-member", _leave_out)
