"""Figures as pictures for papers: what plotly shows in a page, drawn by matplotlib as PNG, SVG or PDF.

Plotly's own pictures need a browser, which a cluster has not. Drawn is what this package's figures are made of:
lines, bands, points, bars, heat maps, contours, surfaces.
"""

import base64
import os
import re
from collections.abc import Mapping, Sequence
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import get_colorscale

from modelspace.atomic import whole_file
from modelspace.errors import ModelspaceError
from modelspace.report._canvas import LIGHT

ENDINGS = (".png", ".svg", ".pdf")
_INCHES, _PIXELS = 6.8, 100  # wide; of the page an inch
_DASHES = {"dash": "--", "dot": ":", "dashdot": "-.", "longdash": "--"}
_SYMBOLS = {
    "circle-open": "o",
    "diamond": "D",
    "line-ns": "|",
    "square": "s",
    "star": "*",
    "x": "x",
    "x-thin": "x",
    "triangle-up": "^",
}
_ACROSS = {
    "left": "right",
    "right": "left",
    "center": "center",
}  # where a text stands, as what of it is there
_UP = {"top": "bottom", "bottom": "top", "middle": "center"}


def write_picture(figure: go.Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as a picture: 300 dots an inch, or vectors with text as text.

    Args:
        figure: One of this package's.
        path: A name that ends in .png, .svg or .pdf; written whole or not at all.

    Raises:
        ModelspaceError: another ending, a kind of figure that only a page can show, no matplotlib, or the place can't
            be written to.
    """
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise ModelspaceError(f"a picture's name ends in {', '.join(ENDINGS)}; received {os.fspath(path)}")
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ModelspaceError(
            "pictures are drawn by matplotlib, which is not installed: pip install matplotlib, or write "
            "FILE.html"
        ) from None
    drawn = figure.to_plotly_json()
    layout = drawn["layout"]
    unknown = {trace["type"] for trace in drawn["data"]} - set(_DRAW)
    if unknown:
        raise ModelspaceError(f"a {unknown.pop()} is drawn in a page alone, and is no picture")
    style: dict[Any, Any] = {
        "font.size": 9,
        "svg.fonttype": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with mpl.rc_context({**style, "svg.hashsalt": "modelspace"}):
        canvas = Figure(figsize=(_INCHES, layout.get("height", 360) / _PIXELS))
        FigureCanvasAgg(canvas)
        panels: dict[tuple[str, str], Any] = {}
        before: dict[Any, Mapping[str, Any]] = {}
        for i, trace in enumerate(drawn["data"]):
            place = (
                ("scene", "scene")
                if trace["type"] == "surface"
                else (trace.get("xaxis", "x"), trace.get("yaxis", "y"))
            )
            if place not in panels:
                panels[place] = _panel(canvas, layout, place)
            axes = panels[place]
            _DRAW[trace["type"]](axes, trace, before.get(axes, {}), i + 2)
            before[axes] = trace
        for place, axes in panels.items():
            _finish(axes, layout, place)
        _notes(panels, layout)
        _legend(panels, drawn["data"])
        with whole_file(path) as temporary:
            canvas.savefig(
                temporary,
                format=ending[1:],
                dpi=300,
                bbox_inches="tight",
                metadata={"Date": None} if ending == ".svg" else None,
            )


def _panel(canvas: Any, layout: Mapping[str, Any], place: tuple[str, str]) -> Any:
    """The axes of a panel, where the layout has it."""
    if place[0] == "scene":
        return canvas.add_subplot(projection="3d")
    (left, right), (low, high) = (_axis(layout, name).get("domain", (0, 1)) for name in place)
    return canvas.add_axes((0.1 + 0.86 * left, 0.14 + 0.74 * low, 0.86 * (right - left), 0.74 * (high - low)))


def _axis(layout: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return layout.get(f"{name[0]}axis{name[1:]}", {})


def _numbers(values: Any) -> Any:
    """Numbers of a trace, a gap as NaN; words as they are."""
    if isinstance(values, Mapping) and "bdata" in values:
        found = np.frombuffer(base64.b64decode(values["bdata"]), np.dtype(values["dtype"]))
        return (
            found.reshape([int(n) for n in str(values["shape"]).split(",")]) if "shape" in values else found
        )
    found = np.asarray(values, dtype=object)
    if any(isinstance(value, str) for value in found.ravel()):
        return [words(value) for value in found.tolist()]
    return found.astype(float)


def words(text: Any) -> str:
    """A text of plotly's without its tags."""
    return unescape(re.sub(r"<[^>]*>", "", str(text).replace("<br>", "\n"))).replace("$", r"\$")


def _colour(value: Any, default: str = LIGHT["main"]) -> Any:
    """A colour as matplotlib has it."""
    if not isinstance(value, str):
        return default
    parts = re.fullmatch(r"rgba?\(([^)]*)\)", value)
    if parts is None:
        return value
    *channels, last = [float(part) for part in parts[1].split(",")]
    red, green, blue, alpha = (*channels, last) if len(channels) == 3 else (*channels, last, 1.0)
    return red / 255, green / 255, blue / 255, alpha


def _colours(trace: Mapping[str, Any]) -> Any:
    """A trace's scale of colours."""
    from matplotlib.colors import LinearSegmentedColormap

    scale = trace.get("colorscale", "Cividis")
    stops = get_colorscale(scale) if isinstance(scale, str) else scale
    made = LinearSegmentedColormap.from_list("scale", [(at, _colour(colour)) for at, colour in stops])
    return made.reversed() if trace.get("reversescale") else made


def _scatter(axes: Any, trace: Mapping[str, Any], before: Mapping[str, Any], above: int) -> None:
    y = _numbers(trace["y"])
    x = _numbers(trace["x"]) if "x" in trace else np.arange(len(y))
    line, marker, mode = trace.get("line", {}), trace.get("marker", {}), trace.get("mode", "lines")
    name, fill = words(trace.get("name", "")), trace.get("fill")
    if fill == "toself":
        axes.fill(x, y, color=_colour(trace.get("fillcolor")), linewidth=0, label=name, zorder=above)
        return
    if fill == "tonexty" and before:
        axes.fill_between(
            x, _numbers(before["y"]), y, color=_colour(trace.get("fillcolor")), linewidth=0, zorder=above
        )
    error = {
        axis: np.abs(_numbers(given["array"])) if "array" in given else given.get("value")
        for axis in ("x", "y")
        if (given := trace.get(f"error_{axis}"))
    }
    if error:
        colour = _colour(next(trace[f"error_{axis}"].get("color") for axis in error))
        bars = {f"{axis}err": value for axis, value in error.items()}
        axes.errorbar(x, y, **bars, fmt="none", ecolor=colour, capsize=2, zorder=above)
    if "lines" in mode and line.get("width", 2):
        axes.plot(
            x,
            y,
            color=_colour(line.get("color")),
            linewidth=0.7 * line.get("width", 2),
            linestyle=_DASHES.get(line.get("dash", "solid"), "-"),
            drawstyle="steps-post" if line.get("shape") == "hv" else "default",
            label=name,
            zorder=above,
        )
    if "markers" in mode:
        _markers(axes, x, y, marker, trace, name, above)
    if "text" in mode:
        up, _, across = str(trace.get("textposition", "top center")).partition(" ")
        texts = trace.get("text", [])
        for place in zip(x, y, [texts] * len(x) if isinstance(texts, str) else texts, strict=False):
            where = {"ha": _ACROSS.get(across, "center"), "va": _UP.get(up, "bottom")}
            colour = _colour(trace.get("textfont", {}).get("color"), LIGHT["ink"])
            axes.annotate(
                words(place[2]), place[:2], (0, 3 if up == "top" else -3), textcoords="offset points", color=colour,
                **where
            )  # fmt: skip


def _markers(
    axes: Any, x: Any, y: Any, marker: Mapping[str, Any], trace: Mapping[str, Any], name: str, above: int
) -> None:
    symbol, edge = marker.get("symbol", "circle"), marker.get("line", {})
    given, size = marker.get("color"), marker.get("size", 6)
    how: dict[str, Any] = {
        "label": name,
        "zorder": above,
        "alpha": marker.get("opacity", trace.get("opacity")),
    }
    if isinstance(given, str) or given is None:
        how["color"] = _colour(given)
        if isinstance(symbol, str) and symbol.endswith("-open"):
            how |= {"facecolors": "none", "edgecolors": _colour(given)}
            del how["color"]
        elif _SYMBOLS.get(str(symbol)) not in ("x", "|"):
            how |= {"edgecolors": _colour(edge.get("color"), "none"), "linewidths": edge.get("width", 0) / 2}
    else:
        values = _numbers(given)
        scaled = not isinstance(values, list)
        how |= {"c": values, "cmap": _colours(marker)} if scaled else {"c": [_colour(c) for c in given]}
    sizes = np.asarray(
        _numbers(size) if isinstance(size, Sequence | Mapping | np.ndarray) else size, dtype=float
    )
    axes.scatter(x, y, s=(0.7 * sizes) ** 2, marker=_SYMBOLS.get(str(symbol), "o"), **how)


def _bar(axes: Any, trace: Mapping[str, Any], before: Mapping[str, Any], above: int) -> None:
    x, y = _numbers(trace["x"]), _numbers(trace["y"])
    how = {"color": _colour(trace.get("marker", {}).get("color")), "label": words(trace.get("name", ""))}
    if trace.get("orientation") == "h":
        errors = trace.get("error_x", {}).get("array")
        axes.barh(y, x, xerr=None if errors is None else _numbers(errors), zorder=above, **how)
    else:
        width = np.diff(np.sort(x)).min() if not isinstance(x, list) and len(x) > 1 else 0.8
        axes.bar(x, y, width=0.9 * width, zorder=above, **how)


def _places(values: Any, count: int) -> tuple[Any, list[str] | None]:
    """Where rows or columns lie, and what they are called where they are no numbers."""
    if values is None:
        return np.arange(count), None
    found = _numbers(values)
    return (np.arange(count), found) if isinstance(found, list) else (found, None)


def _grid(axes: Any, trace: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    z = np.array([np.asarray(_numbers(row), dtype=float) for row in _numbers_2d(trace["z"])])
    (x, across), (y, down) = _places(trace.get("x"), z.shape[1]), _places(trace.get("y"), z.shape[0])
    if across is not None:
        axes.set_xticks(x, across, rotation=0 if len(across) < 12 else 90)
    if down is not None:
        axes.set_yticks(y, down)
    return x, y, np.ma.masked_invalid(z)


def _numbers_2d(values: Any) -> Any:
    return _numbers(values) if isinstance(values, Mapping) else values


def _heatmap(axes: Any, trace: Mapping[str, Any], before: Mapping[str, Any], above: int) -> None:
    x, y, z = _grid(axes, trace)
    mesh = axes.pcolormesh(
        x, y, z, cmap=_colours(trace), shading="nearest", vmin=trace.get("zmin"), vmax=trace.get("zmax")
    )
    if trace.get("texttemplate") and "text" in trace:
        for i, row in enumerate(trace["text"]):
            for j, text in enumerate(row):
                shade = z[i, j] if z[i, j] is not np.ma.masked else 0
                light = sum(mesh.cmap(mesh.norm(shade))[:3]) < 1.2 and z[i, j] is not np.ma.masked
                axes.text(
                    x[j],
                    y[i],
                    words(text),
                    ha="center",
                    va="center",
                    color="w" if light else LIGHT["ink"],
                    size=7,
                )
    if trace.get("showscale", True):
        _scale(axes, mesh, trace)


def _contour(axes: Any, trace: Mapping[str, Any], before: Mapping[str, Any], above: int) -> None:
    x, y, z = _grid(axes, trace)
    given = trace.get("contours", {})
    levels: Any = 12
    if "start" in given:
        levels = np.arange(given["start"], given["end"] + given["size"] / 2, given["size"])
    if given.get("coloring") == "lines":
        axes.contour(
            x,
            y,
            z,
            levels=levels,
            colors=[_colour(trace.get("line", {}).get("color"), LIGHT["ink"])],
            linewidths=0.6,
        )
        return
    filled = axes.contourf(
        x, y, z, levels=levels, cmap=_colours(trace), extend="both" if "start" in given else "neither"
    )
    axes.contour(x, y, z, levels=levels, colors="k", linewidths=0.25, alpha=0.5)
    if trace.get("showscale", True):
        _scale(axes, filled, trace)


def _scale(axes: Any, drawn: Any, trace: Mapping[str, Any]) -> None:
    bar = axes.figure.colorbar(drawn, ax=axes, fraction=0.046, pad=0.02)
    title = trace.get("colorbar", {}).get("title", {})
    bar.set_label(words(title.get("text", "") if isinstance(title, Mapping) else title))


def _surface(axes: Any, trace: Mapping[str, Any], before: Mapping[str, Any], above: int) -> None:
    z = np.array([np.asarray(_numbers(row), dtype=float) for row in _numbers_2d(trace["z"])])
    x, y = (_places(trace.get(name), z.shape[at])[0] for name, at in (("x", 1), ("y", 0)))
    axes.plot_surface(*np.meshgrid(x, y), z, cmap=_colours(trace), rcount=len(y), ccount=len(x), linewidth=0)


_DRAW = {
    "scatter": _scatter,
    "bar": _bar,
    "heatmap": _heatmap,
    "contour": _contour,
    "surface": _surface,
}


def _finish(axes: Any, layout: Mapping[str, Any], place: tuple[str, str]) -> None:
    """Titles, ranges and ticks of a panel."""
    from matplotlib.ticker import PercentFormatter

    if place[0] == "scene":
        for name in "xyz":
            title = layout.get("scene", {}).get(f"{name}axis", {}).get("title", {})
            getattr(axes, f"set_{name}label")(words(title.get("text", "")))
        return
    for name in place:
        given, which = _axis(layout, name), name[0]
        axis = getattr(axes, f"{which}axis")
        if given.get("visible") is False:
            axis.set_visible(False)
            continue
        log = given.get("type") == "log"
        if log:
            getattr(axes, f"set_{which}scale")("log")
        if (ends := given.get("range")) is not None:
            getattr(axes, f"set_{which}lim")(*(10.0**end if log else end for end in ends))
        elif given.get("autorange") == "reversed":
            axis.set_inverted(True)
        if given.get("tickvals") is not None:
            texts = given.get("ticktext")
            axis.set_ticks(_numbers(given["tickvals"]), texts and [words(text) for text in texts])
        elif "%" in str(given.get("tickformat", "")):
            axis.set_major_formatter(PercentFormatter(1.0))
        title = given.get("title", {})
        getattr(axes, f"set_{which}label")(
            words(title.get("text", "") if isinstance(title, Mapping) else title)
        )
        if given.get("scaleanchor"):
            axes.set_aspect("equal", adjustable="box")
    if place[1][0] == "y" and _axis(layout, place[1]).get("showgrid", True):
        axes.grid(axis="y", color=LIGHT["grid"], zorder=0)
    axes.set_axisbelow(True)


def _notes(panels: Mapping[Any, Any], layout: Mapping[str, Any]) -> None:
    """Lines, frames and words that belong to no trace."""
    for shape in layout.get("shapes", ()):
        axes = _named(panels, shape)
        line = shape.get("line", {})
        how = {
            "color": _colour(line.get("color")),
            "linewidth": 0.7 * line.get("width", 1),
            "linestyle": _DASHES.get(line.get("dash", "solid"), "-"),
        }
        ends = {n: shape.get(n) for n in ("x0", "x1", "y0", "y1")}
        if "domain" in str(shape.get("xref", "")):
            axes.axhline(ends["y0"], **how)
        elif "domain" in str(shape.get("yref", "")):
            axes.axvline(ends["x0"], **how)
        elif shape.get("type") == "rect":
            corners = [
                (ends[a], ends[b])
                for a, b in (("x0", "y0"), ("x1", "y0"), ("x1", "y1"), ("x0", "y1"), ("x0", "y0"))
            ]
            axes.plot(*zip(*corners, strict=True), **how, zorder=90)
        else:
            axes.plot([ends["x0"], ends["x1"]], [ends["y0"], ends["y1"]], **how)
    for note in layout.get("annotations", ()):
        axes = _named(panels, note)
        where = axes.transData
        if "domain" in str(note.get("xref", "")):
            where = axes.get_yaxis_transform()
        elif "paper" in str(note.get("xref", "")):
            where = axes.transAxes
        axes.text(
            note.get("x", 0), note.get("y", 0), words(note.get("text", "")), transform=where, size=7,
            color=_colour(note.get("font", {}).get("color"), LIGHT["muted"]),
            ha=note.get("xanchor", "center").replace("auto", "left"),
        )  # fmt: skip


def _named(panels: Mapping[Any, Any], given: Mapping[str, Any]) -> Any:
    """The panel that a shape or a note is on."""
    wanted = str(given.get("xref", "x")).split()[0]
    return next((axes for place, axes in panels.items() if place[0] == wanted), next(iter(panels.values())))


def _legend(panels: Mapping[Any, Any], traces: Sequence[Mapping[str, Any]]) -> None:
    shown = {words(t["name"]) for t in traces if t.get("name") and t.get("showlegend", True)}
    axes = next(iter(panels.values()))
    handles = dict(reversed([*zip(*reversed(axes.get_legend_handles_labels()), strict=True)]))
    named = {label: handle for label, handle in handles.items() if label in shown}
    if len(named) > 1:
        axes.legend(
            [*reversed(named.values())], [*reversed(named)], loc="lower left", bbox_to_anchor=(0, 1), ncols=4,
            frameon=False, fontsize=8, borderaxespad=0.2, handlelength=1.6,
        )  # fmt: skip
