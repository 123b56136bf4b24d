"""The curves of losses as files: a page that needs no network, or a picture."""

from collections.abc import Sequence
from pathlib import Path

from modelspace.errors import ModelspaceError
from modelspace.losses import Curve
from modelspace.report.losses_curves import curves_figure

_PANELS = ("value", "slope", "curvature")


def write_curves_html(curves: Sequence[Curve], path: Path) -> None:
    """One self-contained HTML file.

    Args:
        curves: At least one, all of one line.
        path: Where.
    """
    figure = curves_figure(curves, height=460)
    figure.update_layout(
        title={"text": f"Over the {curves[0].axis}", "font": {"size": 16}}, margin={"t": 100}
    )
    path.write_text(figure.to_html(include_plotlyjs=True, full_html=True), encoding="utf-8")


def write_curves_png(curves: Sequence[Curve], path: Path) -> None:
    """One PNG picture, 1500 × 450 pixels.

    Args:
        curves: At least one, all of one line.
        path: Where.

    Raises:
        ModelspaceError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ModelspaceError(
            "a PNG is drawn by matplotlib, which is not installed: pip install matplotlib, or write FILE.html"
        ) from None
    figure = Figure(figsize=(15, 4.5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for i, name in enumerate(_PANELS):
        axes = figure.add_subplot(1, len(_PANELS), i + 1)
        for each in curves:
            axes.plot(each.points, getattr(each, name), label=each.loss)
        axes.set_xlabel(curves[0].axis)
        axes.set_title(name)
        axes.axhline(0, color="grey", linewidth=0.6)
        if not i:
            axes.legend(frameon=False)
    figure.savefig(path, format="png")
