"""The pages of what lies between points: landscapes, barriers, curves, trajectories, curvature."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from modelspace.report._canvas import LIGHT, colour, empty_figure, plain_text, score_ticks, stroke
from modelspace.report._document import Page, Plot, Section, kept
from modelspace.report._record import KeptSection, Table
from modelspace.show import number, score, seconds_text

if TYPE_CHECKING:
    from modelspace.geometry import Barriers, Connection, Curvature, Landscape, Trajectory

_ROWS = 200
_FEW = 12  # lines that can be told apart
_CELLS = 64  # members of a matrix that is drawn
_STEEP = 20  # from this ratio on heights are logarithmic


def landscape_page(found: "Landscape") -> Page:
    """Return the page of a landscape: surface, contour and profiles, the members on them."""
    plots: list[Plot] = []
    for name in found.values:
        plots += _plane_plots(found, name) if len(found.axes) == 2 else [_profile(found, name, 0)]
    facts = [
        ("slice", found.plane),
        ("points evaluated", f"{found.evaluated:,} in {seconds_text(found.seconds)}"),
    ]
    facts.append(("normalisation statistics", found.statistics))
    facts += [("holes", f"{found.holes:,} values that are no finite number")] if found.holes else []
    sections = [
        Section("The ground", found.notes, plots, facts=facts),
        Section("The points on it", tables=[_frame_table("Where each lies, and its values", found.marks)]),
    ]
    extrema = found.extrema()
    if len(extrema):
        words = "Of the grid on the slice: a minimum of it need not be one of the space."
        sections.append(Section("Minima and saddles", [words], tables=[_frame_table("Candidates", extrema)]))
    if found.barriers is not None:
        sections.append(_barrier_section(found.barriers))
    return Page("A landscape", f"{found.title} on {found.data}", [_first(found)], sections)


def explored(plane: "Landscape | None", bends: "Curvature | None") -> tuple[KeptSection, ...]:
    """Return what an exploration's page shows of the plane through three members, and of curvature."""
    sections = []
    if plane is not None:
        words = "The plane through the first three fresh seeds that finished, in parameter distance."
        plots = _plane_plots(plane, "train_loss")[:2]
        if plane.barriers is not None:
            plots += _barrier_section(plane.barriers).plots[:1]
        marks = _frame_table("Where each lies, and its losses", plane.marks)
        sections.append(Section("The ground between them", [words, *plane.notes], plots, [marks]))
    if bends is not None:
        words = f"{bends.heading[:1].upper()}{bends.heading[1:]}."
        plots = [plot for plot in curvature_page(bends).plots if plot.key == "edge"]
        table = _frame_table("Curvature of each, with its errors", bends.table)
        sections.append(Section("How the loss bends there", [words, *bends.notes], plots, [table]))
    return kept(sections)


def barriers_page(found: "Barriers") -> Page:
    """Return the page of barriers."""
    return Page("Barriers", found.title, (), [_barrier_section(found)])


def trajectory_page(found: "Trajectory") -> Page:
    """Return the page of trajectories: on their principal plane, and what they are as curves."""
    plots = [
        Plot(
            "trajectory",
            "The members on their common principal plane; a ring is the start, a dot the end.",
            f"Ways of {len(found.members)} members; their numbers are in the table.",
            ways_figure(found),
        ),
        Plot(
            "explained",
            "The share of the variance that each component explains, beside that of random walks of as many steps.",
            "Bars of explained variance; their numbers are in the table.",
            explained_figure(found),
            (_frame_table("By component", found.components.reset_index()),),
        ),
    ]
    for name, words in (
        ("distance", "Distance from the start, ‖θₜ − θ₀‖."),
        ("norm", "Norm, ‖θₜ‖."),
        ("turning", "The angle between one recorded step and the next; random walks turn by 90°."),
    ):
        plots.append(Plot(name, words, f"{words} A line a member.", _by_step(found, name)))
    sections = [
        Section("The way", found.notes, plots),
        Section("Numbers", tables=[_frame_table("By member and step", found.table)]),
    ]
    return Page("Trajectories", found.title, (), sections)


def connection_page(found: "Connection") -> Page:
    """Return the page of connecting curves."""
    plots = [
        Plot(
            f"curve-{split}",
            f"The {split} loss along the straight line and along the trained curve.",
            "Line plot of the loss; its extremes are in the table.",
            connection_figure(found, split),
        )
        for split in found.curves
    ]
    section = Section("Along the curve", (), plots, [_frame_table("Each curve", found.table)])
    return Page("A curve between two points", found.title, (), [section])


def curvature_page(found: "Curvature") -> Page:
    """Return the page of curvature: eigenvalues, traces, density, layers, the edge of stability."""
    plots = []
    if found.top.shape[1]:
        many = (
            "the median and the band of 95 % of the members" if len(found.top) > _FEW else "a line a member"
        )
        words = f"The largest eigenvalues: {many}; ‖Av − λv‖ bounds the error of each."
        plots.append(
            Plot("top", words, f"{words} Their numbers are in the table.", eigenvalues_figure(found))
        )
        if np.isfinite(found.thresholds).any():
            words = (
                "The largest eigenvalue, and, dashed, that from which the optimizer's full-batch steps grow on a "
                "quadratic (2/η of gradient descent)."
            )
            plots.append(Plot("edge", words, f"{words} Both are in the table.", edge_figure(found)))
    if found.density is not None:
        of = "members" if len(found.density.values) > 1 else "probes"
        words = (
            f"The density of eigenvalues, mean and 95 % band over {of}; logarithmic, so that outliers show."
        )
        plots.append(Plot("density", words, words, density_figure(found)))
    if found.layers:
        words = "The share of the trace in each layer: the mean over members, and its SD."
        plots.append(Plot("layers", words, f"{words} The traces are in the table.", layers_figure(found)))
    sections = [
        Section("How it bends", found.notes, plots),
        Section("Each point", tables=[_frame_table("Curvature of each point", found.table)]),
    ]
    return Page("Curvature", f"{found.title} on {found.data}", [found.heading], sections)


def _first(found: Any) -> str:
    """The first line of what a record says of itself."""
    return repr(found).partition("\n")[0]


# Landscapes


def _plane_plots(found: "Landscape", name: str) -> list[Plot]:
    words = _label(name)
    of = f"mean over {_count(found)} slices" if _count(found) > 1 else "one slice"
    told = f"The {words} over the plane ({of})"
    plots = [
        Plot(
            f"{name}-surface",
            f"{told}; drag to turn it.",
            f"Surface of the {words}.",
            surface_figure(found, name),
        ),
        Plot(
            f"{name}-contour",
            f"{told}, with the points on it. A hole is where it is no number.",
            f"Contour plot of the {words}.",
            contour_figure(found, name),
        ),
    ]
    return [*plots, *(_profile(found, name, axis) for axis in range(2))]


def _count(found: "Landscape") -> int:
    return len(found.of())


def heights(found: "Landscape", name: str) -> tuple[np.ndarray, str]:
    """Return the mean over slices as it is drawn, and its title; logarithmic where it rises steeply."""
    z, title = found.mean(name), _label(name)
    known = z[np.isfinite(z)]
    if len(known) and known.min() > 0 and known.max() > _STEEP * np.median(known):
        return np.log10(z), f"log₁₀ {title}"
    return z, title


def surface_figure(found: "Landscape", name: str) -> go.Figure:
    """Draw the mean over slices as a surface that turns."""
    z, title = heights(found, name)
    figure = empty_figure(480)
    x, y = found.grid
    bar = {"thickness": 10, "outlinewidth": 0, "title": {"text": title, "side": "right"}}
    figure.add_surface(
        x=list(x), y=list(y), z=_rows(z.T), colorscale="Cividis", colorbar=bar, showscale=False
    )
    axis = {"color": LIGHT["muted"], "gridcolor": LIGHT["grid"], "backgroundcolor": "rgba(0,0,0,0)"}
    scene = {
        f"{a}axis": {**axis, "title": {"text": plain_text(t)}}
        for a, t in zip("xyz", (*found.axes, title), strict=True)
    }
    camera = {"eye": {"x": 1.35, "y": -1.35, "z": 0.95}}
    return figure.update_layout(
        scene={**scene, "camera": camera, "aspectmode": "cube"},
        margin={"l": 0, "r": 0, "t": 4, "b": 4},
        dragmode="turntable",
    )


def contour_figure(found: "Landscape", name: str) -> go.Figure:
    """Draw the mean over slices as a contour, the points and their ways on it."""
    z, title = heights(found, name)
    figure = empty_figure(470)
    x, y = found.grid
    bar = {
        "thickness": 10,
        "outlinewidth": 0,
        "title": {"text": title, "side": "right"},
        "tickfont": {"size": 11},
    }
    figure.add_contour(
        x=list(x), y=list(y), z=_rows(z.T), colorscale="Cividis", colorbar=bar, ncontours=18, connectgaps=False,
        line={"width": 0.5}, contours={"coloring": "fill"},
        hovertemplate=f"{found.axes[0]} %{{x:.3g}}, {found.axes[1]} %{{y:.3g}}<br>{title} %{{z:.4g}}<extra></extra>",
    )  # fmt: skip
    marks = found.marks
    ways = "step" in marks
    groups = list(marks.groupby("member", sort=False)) if "member" in marks and ways else [("", marks)]
    for i, (member, own) in enumerate(groups):
        places = [own[axis].tolist() for axis in found.axes]
        text = [_mark(row) for row in own.to_dict("records")]
        style = {
            "color": colour(i) if ways else LIGHT["paper"],
            "size": 5 if ways else 10,
            "line": stroke("ink", 1),
        }
        figure.add_scatter(
            x=places[0], y=places[1], mode="lines+markers" if ways else "markers", marker=style, text=text,
            hoverinfo="text", line={"color": colour(i), "width": 1.5}, name=f"member {member}" if ways else "points",
            showlegend=ways and len(groups) <= _FEW,
        )  # fmt: skip
    figure.update_xaxes(title_text=plain_text(found.axes[0]), showgrid=False, range=[x[0], x[-1]])
    even: dict[str, Any] = {"scaleanchor": "x", "constrain": "domain"}  # a length is as long along both
    figure.update_xaxes(constrain="domain")
    return figure.update_yaxes(
        title_text=plain_text(found.axes[1]), showgrid=False, range=[y[0], y[-1]], **even
    )


def _profile(found: "Landscape", name: str, axis: int) -> Plot:
    across, words = found.axes[axis], _label(name)
    many = (
        f": the mean over {_count(found)} slices, the band from the lowest to the highest"
        if _count(found) > 1
        else ""
    )
    where = "" if len(found.axes) == 1 else f" through the middle along {across}"
    caption = f"The {words}{where}{many}."
    figure, rows = profile_figure(found, name, axis)
    table = Table(caption, (across, "mean", "low", "high", "slices"), rows, 0)
    return Plot(f"{name}-{across}", caption, f"Line plot of the {words} along {across}.", figure, (table,))


def profile_figure(found: "Landscape", name: str, axis: int) -> tuple[go.Figure, list[tuple[str, ...]]]:
    """Draw a line of the grid through its middle; return its numbers too."""
    values = found.values[name]
    low, high, mean = values.min(0), values.max(0), found.mean(name)
    count = np.isfinite(values).sum(0)
    if len(found.axes) == 2:
        other = found.grid[1 - axis]
        middle = int(
            np.abs(np.asarray(other) - (0.0 if other[0] < 0 < other[-1] else np.mean(other))).argmin()
        )
        pick = (slice(None), middle) if axis == 0 else (middle, slice(None))
        values, low, high, mean, count = values[:, *pick], low[pick], high[pick], mean[pick], count[pick]
    x = list(found.grid[axis])
    figure = empty_figure(320)
    if _count(found) > 1:
        _band(figure, x, low, high, "all slices")
        for row in values if _count(found) <= _FEW else ():
            figure.add_scatter(
                x=x,
                y=_list(row),
                mode="lines",
                line=stroke("main_band", 1),
                hoverinfo="skip",
                showlegend=False,
            )
    figure.add_scatter(
        x=x,
        y=_list(mean),
        mode="lines",
        line=stroke("main", 2.2),
        name="mean" if _count(found) > 1 else _label(name),
    )
    figure.update_xaxes(title_text=plain_text(found.axes[axis]))
    figure.update_yaxes(title_text=_label(name), **_height_axis(mean, name))
    rows = [
        (number(a), score(m, name), score(b, name), score(c, name), str(n))
        for a, m, b, c, n in zip(x, mean, low, high, count, strict=True)
    ]
    return figure, rows


def _height_axis(values: np.ndarray, name: str) -> dict[str, Any]:
    known = values[np.isfinite(values)]
    if len(known) and known.min() > 0 and known.max() > _STEEP * np.median(known):
        return {"type": "log"}
    return score_ticks(name.partition("_")[2])


# Barriers


def _barrier_section(found: "Barriers") -> Section:
    summary = found.table.reset_index()
    plots = [
        Plot(
            "barrier-paths",
            f"The {found.split} loss along the straight line between two members: the mean over {found.n} pairs, and "
            "the band from the lowest to the highest. Recomputed: with normalisation statistics of each point's own.",
            "Line plot of the loss between members; barriers are in the table.",
            between_figure(found),
            (_frame_table("Barriers over pairs; the error is over members", summary),),
        )
    ]
    if 2 < len(found.members) <= _CELLS:
        words = f"The barrier ({found.kinds[0].replace('_', ' ')}) between every two members."
        plots.append(
            Plot("barrier-matrix", words, f"{words} Its numbers are in the table.", matrix_figure(found))
        )
    return Section("Barriers", found.notes, plots, [_frame_table("Each pair", found.pairs)])


def between_figure(found: "Barriers") -> go.Figure:
    """Draw the loss between the members of each pair: mean and band."""
    figure, x = empty_figure(320), list(found.path)
    for losses, name, words in (
        (found.losses, "main", "statistics interpolated" if found.recomputed is not None else "mean"),
        (found.recomputed, "other", "statistics recomputed"),
    ):
        if losses is None:
            continue
        if found.n > 1 and name == "main":
            _band(figure, x, losses.min(0), losses.max(0), "all pairs")
        figure.add_scatter(x=x, y=_list(losses.mean(0)), mode="lines", line=stroke(name, 2.2), name=words)
    figure.update_xaxes(title_text="t: (1 − t)·a + t·b")
    return figure.update_yaxes(title_text=f"{found.split} loss")


def matrix_figure(found: "Barriers") -> go.Figure:
    """Draw the barrier between every two members."""
    names = [str(row) for row in found.members.index]
    figure = empty_figure(max(300, 130 + 18 * len(names)))
    bar = {"thickness": 10, "outlinewidth": 0, "title": {"text": "barrier", "side": "right"}}
    scale = {"colorscale": "Cividis", "colorbar": bar, "xgap": 1, "ygap": 1}
    figure.add_heatmap(x=names, y=names, z=_rows(found.matrix()), **scale)
    figure.update_xaxes(title_text="member", type="category", showgrid=False)
    return figure.update_yaxes(title_text="member", type="category", showgrid=False, autorange="reversed")


def connection_figure(found: "Connection", split: str) -> go.Figure:
    """Draw the loss along the line and along each curve."""
    figure, x = empty_figure(320), list(found.path)
    curves = found.curves[split]
    for i, (line, curve) in enumerate(zip(found.lines[split], curves, strict=True)):
        straight = stroke("muted", 1.6, "dash")
        name = f"curve {i}" if len(curves) > 1 else "curve"
        figure.add_scatter(
            x=x, y=_list(line), mode="lines", line=straight, name="straight line", showlegend=not i
        )
        style = {"color": colour(i), "width": 2.2}
        figure.add_scatter(x=x, y=_list(curve), mode="lines", line=style, name=name, showlegend=i < _FEW)
    figure.update_xaxes(title_text="t, from a to b")
    return figure.update_yaxes(title_text=f"{split} loss")


# Trajectories


def ways_figure(found: "Trajectory") -> go.Figure:
    """Draw the members' ways on their common plane; against the steps where they have one axis."""
    figure, plane = empty_figure(440), found.coordinates.shape[2] > 1
    for i, way in enumerate(found.coordinates):
        x, y = (way[:, 0], way[:, 1]) if plane else (found.steps[i].astype(float), way[:, 0])
        name, shown = f"member {_member(found, i)}", 1 < len(found.coordinates) <= _FEW
        style = {"color": colour(i), "width": 1.8}
        figure.add_scatter(x=_list(x), y=_list(y), mode="lines", line=style, name=name, showlegend=shown)
        known = np.flatnonzero(np.isfinite(way[:, 0]))
        for at, symbol in ((known[:1], "circle-open"), (known[-1:], "circle")):
            marker = {"symbol": symbol, "size": 9, "color": colour(i), "line": {"width": 2}}
            ends = {"x": _list(x[at]), "y": _list(y[at]), "hoverinfo": "skip", "showlegend": False}
            figure.add_scatter(**ends, mode="markers", marker=marker)
    titles = [
        f"component {k + 1}, {100 * share:.0f} % of the variance"
        for k, share in enumerate(found.explained[:2])
    ]
    figure.update_xaxes(title_text=titles[0] if plane else "updates")
    return figure.update_yaxes(title_text=titles[1] if plane else titles[0])


def _member(found: "Trajectory", i: int) -> Any:
    return found.members["member"].iloc[i]


def explained_figure(found: "Trajectory") -> go.Figure:
    """Draw each component's share beside the random walk's."""
    count = min(10, len(found.explained))
    figure, ranks = empty_figure(300), list(range(1, count + 1))
    figure.add_bar(
        x=ranks, y=_list(found.explained[:count]), marker={"color": LIGHT["main"]}, name="these ways"
    )
    figure.add_scatter(
        x=ranks,
        y=_list(found.null[:count]),
        mode="markers",
        marker={"symbol": "diamond", "size": 10, "color": LIGHT["other"]},
        name="a random walk",
    )
    figure.update_xaxes(title_text="component", tickvals=ranks)
    return figure.update_yaxes(title_text="share of the variance", tickformat=".0%")


def _by_step(found: "Trajectory", name: str) -> go.Figure:
    figure = empty_figure(280)
    rows = list(zip(found.steps, getattr(found, name), strict=True))
    for i, (steps, values) in enumerate(rows):
        style = {"color": colour(i), "width": 1.6}
        shown = {"name": f"member {_member(found, i)}", "showlegend": 1 < len(rows) <= _FEW}
        figure.add_scatter(
            x=steps[steps >= 0].tolist(), y=_list(values[steps >= 0]), mode="lines", line=style, **shown
        )
    figure.update_xaxes(title_text="updates")
    return figure.update_yaxes(title_text={"turning": "degrees"}.get(name, name))


# Curvature


def eigenvalues_figure(found: "Curvature") -> go.Figure:
    """Draw the largest eigenvalues by rank."""
    figure, ranks = empty_figure(320), np.arange(1, found.top.shape[1] + 1)
    few = len(found.top) <= _FEW
    if not few:
        low, high = np.nanquantile(found.top, [0.025, 0.975], axis=0)
        _band(figure, ranks.tolist(), low, high, "95 % of the members")
        figure.add_scatter(
            x=ranks.tolist(),
            y=_list(np.nanmedian(found.top, 0)),
            mode="lines+markers",
            line=stroke("main", 2),
            name="median",
        )
    for k, row in enumerate(found.top if few else ()):
        error = {"type": "data", "array": _list(found.top_bound[k]), "color": LIGHT["muted"]}
        style = {"color": colour(k), "width": 1.5}
        figure.add_scatter(
            x=ranks.tolist(),
            y=_list(row),
            mode="lines+markers",
            error_y=error,
            line=style,
            name=f"point {k}",
            showlegend=len(found.top) > 1,
        )
    figure.update_xaxes(title_text="rank", tickvals=ranks.tolist())
    return figure.update_yaxes(title_text="eigenvalue")


def edge_figure(found: "Curvature") -> go.Figure:
    """Draw the largest eigenvalue against training, or against the learning rate; and the optimizer's threshold."""
    table, sharp = found.table, found.top[:, 0]
    figure = empty_figure(360)
    if "step" in table:
        groups = [own for _, own in table.groupby("member", sort=False)]
        for i, own in enumerate(groups):
            rows = own.index.to_numpy()
            x, name = own["step"].tolist(), f"member {own['member'].iloc[0]}"
            figure.add_scatter(
                x=x,
                y=_list(sharp[rows]),
                mode="lines+markers",
                line={"color": colour(i), "width": 1.8},
                name=name,
                showlegend=len(groups) <= _FEW,
            )
        for threshold in sorted({float(v) for v in found.thresholds if np.isfinite(v)})[:_FEW]:
            figure.add_hline(y=threshold, line=stroke("other", 1.2, "dash"))
        figure.update_xaxes(title_text="updates")
    elif "lr" in table:
        order = np.argsort(table["lr"].to_numpy())
        x = table["lr"].to_numpy()[order]
        figure.add_scatter(
            x=_list(x),
            y=_list(sharp[order]),
            mode="markers",
            marker={"color": LIGHT["main"], "size": 7, "opacity": 0.7},
            name="largest eigenvalue",
        )
        figure.add_scatter(
            x=_list(x),
            y=_list(found.thresholds[order]),
            mode="lines",
            line=stroke("other", 2, "dash"),
            name="threshold",
        )
        figure.update_xaxes(title_text="lr", type="log")
    else:
        figure.add_scatter(
            y=_list(sharp),
            mode="markers",
            marker={"color": LIGHT["main"], "size": 7},
            name="largest eigenvalue",
        )
        figure.add_hline(
            y=float(np.nanmedian(found.thresholds)),
            line=stroke("other", 1.5, "dash"),
            annotation_text="threshold",
        )
        figure.update_xaxes(title_text="member")
    known = np.concatenate([sharp, found.thresholds])
    known = known[np.isfinite(known)]
    log = len(known) and known.min() > 0 and known.max() > _STEEP * known.min()
    kind: dict[str, Any] = {"type": "log"} if log else {}
    return figure.update_yaxes(title_text="largest eigenvalue", **kind)


def density_figure(found: "Curvature") -> go.Figure:
    """Draw the density of eigenvalues: mean and band."""
    assert found.density is not None
    figure, x = empty_figure(340), found.density.grid.tolist()
    low, mean, high = found.density.band()
    if len(found.density.values) == 1:
        low, high = (mean + side * 1.96 * found.density.se[0] for side in (-1, 1))
    floor = mean.max() * 1e-6
    _band(figure, x, np.maximum(low, floor), np.maximum(high, floor), "95 %")
    figure.add_scatter(
        x=x, y=_list(np.maximum(mean, floor)), mode="lines", line=stroke("main", 2), name="mean"
    )
    figure.update_xaxes(title_text="eigenvalue")
    return figure.update_yaxes(title_text="density", type="log")


def layers_figure(found: "Curvature") -> go.Figure:
    """Draw each layer's share of the trace."""
    shares = found.by_layer / found.by_layer.sum(1, keepdims=True)
    names = [plain_text(name) for name in found.layers]
    figure = empty_figure(110 + 26 * len(names))
    errors = (
        {"type": "data", "array": _list(shares.std(0, ddof=1)), "color": LIGHT["ink"]}
        if len(shares) > 1
        else None
    )
    figure.add_bar(
        x=_list(shares.mean(0)), y=names, orientation="h", error_x=errors, marker={"color": LIGHT["main"]}
    )
    figure.update_xaxes(title_text="share of the trace", tickformat=".0%", rangemode="tozero")
    return figure.update_yaxes(autorange="reversed")


# What several share


def _band(figure: go.Figure, x: Sequence[Any], low: np.ndarray, high: np.ndarray, name: str) -> None:
    figure.add_scatter(
        x=x, y=_list(high), mode="lines", line=stroke("main_faint", 0), hoverinfo="skip", showlegend=False
    )
    figure.add_scatter(
        x=x, y=_list(low), mode="lines", line=stroke("main_faint", 0), fill="tonexty", fillcolor=LIGHT["main_band"],
        name=name, hoverinfo="skip",
    )  # fmt: skip


def _list(values: Any) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in np.asarray(values, dtype=float)]


def _rows(values: np.ndarray) -> list[list[float | None]]:
    return [_list(row) for row in values]


def _label(name: str) -> str:
    return name.replace("_", " ")


def _mark(row: dict[str, Any]) -> str:
    return "<br>".join(f"{plain_text(str(n))} {plain_text(_cell(v))}" for n, v in row.items())


def _frame_table(caption: str, frame: pd.DataFrame) -> Table:
    shown = frame.head(_ROWS)
    rows = [tuple(_cell(value) for value in row) for row in shown.itertuples(index=False)]
    more = f" (the first {_ROWS}; {len(frame) - _ROWS} more)" if len(frame) > _ROWS else ""
    return Table(caption + more, tuple(_label(str(name)) for name in shown), rows, 0)


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return number(float(value))
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return f"{value:,}"
    return "–" if value is None else str(value)
