"""The picture of the curves: ``python -m benchmarks.picture RESULT.json docs/speedup.png``.

What is drawn is read from a result file first, as plain lines; the drawing adds nothing to them.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.machine import on_gpu
from modelspace.atomic import whole_file
from modelspace.errors import ModelspaceError

_TITLES = {"dummynet": "DummyNet", "mlp": "MLP", "cnn": "CNN", "torch.func": "torch.func", "jax": "JAX"}
_INK, _MUTED, _GRID, _PEER = "#22272d", "#646c76", "#e4e7eb", "#a3abb5"
_COLOURS = ("#0072b2", "#b8630b", "#007a5a")
_STYLES: dict[str, dict[str, Any]] = {
    "population": {"linewidth": 2.4, "marker": "o", "markersize": 4.5, "zorder": 4},
    "planned": {"linewidth": 1.0, "alpha": 0.55, "zorder": 3},
    "peer": {"linewidth": 1.0, "zorder": 2},
}
_SIZE, _DPI = (9.0, 5.2), 200  # 900 pixels wide on a page, sharp on a fine screen
_SUBTITLE = "Times as fast as the plain PyTorch loop; thin lines, planning and compiling included"
_APART = 0.066  # of the panel's height between two labels


class Line(NamedTuple):
    """One line of the picture: how many times as fast as the plain loop, at each K."""

    title: str
    kind: str  # "population" (planning left out), "planned" (the same, planning included) or "peer"
    members: tuple[int, ...]
    ratios: tuple[float, ...]


def lines(results: dict[str, Any]) -> list[Line]:
    """The lines of a result file: two for each curve, and the peers of the first curve that has any.

    Raises:
        ModelspaceError: it holds no curve.
    """
    if not results.get("curves"):
        raise ModelspaceError("they hold no curve: python -m benchmarks --only curve --json RESULT.json")
    populations, peers = [], []
    for curve in results["curves"]:
        title = _TITLES[curve["workload"].rsplit("-", 1)[0]]
        members = tuple(f["members"] for f in curve["fits"])
        for kind, key in (("population", "ratio_planned"), ("planned", "ratio")):
            populations.append(Line(title, kind, members, tuple(f[key] for f in curve["fits"])))
        for peer in {} if peers else dict.fromkeys(name for p in curve["points"] for name in p["ratios"]):
            points = [(p["members"], p["ratios"][peer]) for p in curve["points"] if peer in p["ratios"]]
            peers.append(Line(f"{_TITLES[peer]} on {title}", "peer", *zip(*points, strict=True)))
    return populations + peers


def caption(results: dict[str, Any]) -> str:
    """What was measured, and where, in two lines."""
    e, curves = results["environment"], results["curves"]
    peers = "; grey: training steps alone, compiling left out" if any(c["points"] for c in curves) else ""
    where = e["device"] if on_gpu(e) else f"{e['threads']} cores of {e['device']}"
    fits = f"Fits of {curves[0]['fits'][0]['epochs']} epochs with Adam at batch 32 in float32"
    return f"{fits}{peers}\n{where}, torch {e['torch']}, {e['date'][:10]}"


def figure(drawn: Sequence[Line], note: str = "") -> Figure:
    """The picture, with a note below it."""
    with matplotlib.rc_context({"font.family": "sans-serif", "font.size": 11, "svg.fonttype": "none"}):
        made = Figure(figsize=_SIZE, dpi=_DPI, facecolor="white")
        axes = made.add_axes((0.06, 0.185, 0.715, 0.66))
        _panel(axes, drawn)
        titles = dict.fromkeys(line.title for line in drawn if line.kind != "peer")
        colours: dict[str, str] = dict(zip(titles, _COLOURS, strict=False))
        for line in drawn:
            colour = colours.get(line.title, _PEER)
            axes.plot(line.members, line.ratios, color=colour, solid_capstyle="round", **_STYLES[line.kind])
        _labels(axes, [line for line in drawn if line.kind != "planned"], colours)
        made.text(0.012, 0.94, "Training K networks as one program", size=15, weight="bold", color=_INK)
        made.text(0.012, 0.888, _SUBTITLE, size=11, color=_MUTED)
        made.text(0.012, 0.015, note, size=8.5, color=_MUTED, linespacing=1.35)
        return made


def _panel(axes: Axes, drawn: Sequence[Line]) -> None:
    members = sorted({k for line in drawn for k in line.members})
    ratios = [r for line in drawn for r in line.ratios]
    low, high = min(0.8, *ratios) * 0.85, max(ratios) * 1.2
    axes.set_xscale("log", base=2)
    axes.set(yscale="log", xlim=(members[0] * 0.87, members[-1] * 1.15), ylim=(low, high))
    axes.set_xticks(members, [f"{k:,}" for k in members])
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low < t < high]
    axes.set_yticks(ticks, [f"{t:g} ×" for t in ticks])
    axes.minorticks_off()
    axes.set_xlabel("K, networks in the population", color=_MUTED, labelpad=8)
    axes.tick_params(colors=_MUTED, length=0, pad=6)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.axhline(1, color=_MUTED, linewidth=1)
    axes.spines[:].set_visible(False)
    axes.set_axisbelow(True)


def _labels(axes: Axes, drawn: Sequence[Line], colours: dict[str, str]) -> None:
    """At the right edge, level with the lines' ends, moved apart where they would touch."""
    to_panel = axes.transData + axes.transAxes.inverted()
    ends = [(float(to_panel.transform((1, line.ratios[-1]))[1]), line) for line in drawn]
    ends.sort(key=lambda end: end[0])
    levels = apart([level for level, _ in ends], _APART)
    for (_, line), level in zip(ends, levels, strict=True):
        ratio = f"  {line.ratios[-1]:.{int(line.ratios[-1] < 10)}f} ×"
        style: dict[str, Any] = {"size": 12, "weight": "bold", "color": colours.get(line.title)}
        if line.kind == "peer":
            ratio, style = "", {"size": 10, "color": _MUTED}
        place = {"xycoords": "axes fraction", "va": "center"}
        axes.annotate(f"{line.title}{ratio}", (1.008, level), **place, **style)
    below = {"xytext": (-2, -5), "textcoords": "offset points", "ha": "right", "va": "top"}
    axes.annotate("the plain loop", (axes.get_xlim()[1], 1), size=9.5, color=_MUTED, **below)


def apart(levels: Sequence[float], least: float) -> list[float]:
    """Sorted levels, moved as little as needed so that neighbours are ``least`` apart.

    Neighbours that are too near form a group, spread evenly around their mean; groups that then touch are joined.
    """
    groups: list[list[float]] = []

    def spread(group: list[float]) -> list[float]:
        return [mean(group) + (i - (len(group) - 1) / 2) * least for i in range(len(group))]

    for level in levels:
        groups.append([level])
        while len(groups) > 1 and spread(groups[-2])[-1] + least > spread(groups[-1])[0]:
            groups[-2:] = [groups[-2] + groups[-1]]
    return [level for group in groups for level in spread(group)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Read, draw, write; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.picture", description=__doc__)
    parser.add_argument("results", type=Path, help="what --json or a whole run wrote")
    parser.add_argument("picture", type=Path, help="a .png, .svg or .pdf")
    asked = parser.parse_args(arguments)
    try:
        results = json.loads(asked.results.read_text(encoding="utf-8"))
        drawn = figure(lines(results), caption(results))
        with whole_file(asked.picture) as temporary:
            drawn.savefig(temporary, format=asked.picture.suffix.removeprefix("."), dpi=_DPI)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
