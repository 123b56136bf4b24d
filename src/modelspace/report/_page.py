"""The page: a record's sentences, tables and figures, laid out by ``page.html.j2``, and written to a file.

The page loads nothing: styles and plotly.js are inlined, and its content security policy allows the scripts
that are in it, by hash, no other, and no connection.
"""

import os
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from modelspace.data import Data
from modelspace.explore import Exploration
from modelspace.report import _document as document
from modelspace.report import _figures as figures
from modelspace.report import _losses as losses
from modelspace.report import _words as words
from modelspace.report._document import Plot, Table
from modelspace.report._extract import record_of_exploration, record_of_run
from modelspace.report._record import Band, FitRecord, Member, ReportRecord, Setting
from modelspace.runs import Run
from modelspace.show import bytes_text, number, score, seconds_text, shape_text, spread

_MOST_ROWS = 200
_NAMES = {"sweep": "sweep", "fresh": "fresh seeds", "run": "run"}


def write_record(record: ReportRecord, path: str | os.PathLike[str]) -> None:
    """Write a record's page: one HTML file that needs no network and reads without scripts.

    Args:
        record: What is shown.
        path: Where the page goes, whole or not at all.

    Raises:
        ModelspaceError: the place can't be written to.
    """
    document.write(page(record), path)


def write_exploration(
    exploration: Exploration, path: str | os.PathLike[str], *, command: str | None = None
) -> None:
    """Write an exploration's page.

    Args:
        exploration: What ``explore`` gave.
        path: Where the page goes, whole or not at all.
        command: The command line to print for a reader who wants to do it again.

    Raises:
        ModelspaceError: the place can't be written to.
    """
    write_record(record_of_exploration(exploration, command=command), path)


def write_run(
    run: Run, path: str | os.PathLike[str], *, command: str | None = None, data: Data | None = None
) -> None:
    """Write a run's page.

    Args:
        run: What ``fit`` gave.
        path: Where the page goes, whole or not at all.
        command: The command line to print for a reader who wants to do it again.
        data: What it was fitted on: where the loss is a column, losses are then compared on its test split.

    Raises:
        ModelspaceError: the place can't be written to.
    """
    write_record(record_of_run(run, command=command, data=data), path)


def exploration_plots(record: ReportRecord) -> list[Plot]:
    """Return every figure of a record's page."""
    return [plot for plots in _plots(record).values() for plot in plots]


def _plots(record: ReportRecord) -> dict[str, list[Plot]]:
    """The figures, by the part of the page that they are in."""
    return {
        "response": _response_plots(record),
        "scores": _score_plots(record),
        "curves": _curve_plots(record),
        "path": _path_plots(record),
        "losses": losses.plots(record.losses),
        "confusion": [_confusion_plot(record)] if record.classes else [],
        "ground": [plot for section in document.drawn(record.ground) for plot in section.plots],
    }


def page(record: ReportRecord) -> str:
    """Return the whole HTML page of a record: one self-contained document."""
    first = record.response[0] if record.response else None
    quartiles = (score(v, record.metric) for v in (first.q1, first.median, first.q3)) if first else ()
    return document.rendered(
        "page.html.j2",
        record=record,
        plots=_plots(record),
        ground=document.drawn(record.ground),
        by_class=_class_table(record) if record.classes else None,
        verdict=words.verdict(record),
        notes=words.reading_notes(record),
        remarks=words.choice_remarks(record),
        chosen=words.chosen_text(record),
        keys=_key_figures(record),
        digits=str(record.space.dimension),
        made=datetime.fromisoformat(record.created).strftime("%-d %B %Y, %H:%M UTC"),
        layers=_layers(record),
        blocks=_blocks(record),
        facts=_facts(record),
        responses=_response_table(record, record.response, "All settings") if record.columns else None,
        quartiles=", ".join(quartiles),
        summary=_summary(record),
        members=_members(record),
        failures=[t for t in (_failures(fit) for fit in record.fits) if t],
        pair=_pair(record),
        distances=_distances(record),
        compared=losses.tables(record.losses),
        terms=losses.terms(record.losses),
        computed=_computed(record),
        fits=_fits(record),
    )


def _class_table(record: ReportRecord) -> Table:
    rows = [
        (
            each.name,
            f"{each.support:,}",
            *(f"{m:.3f}" + ("" if sd is None else f" ± {sd:.3f}") for m, sd in each.scores),
        )
        for each in record.classes
    ]
    return Table("Each class against the rest", ("class", "labels", "precision", "recall", "F1"), rows)


def _confusion_plot(record: ReportRecord) -> Plot:
    names = [each.name for each in record.classes]
    rows = [(each.name, *(f"{100 * share:.1f} %" for share in each.taken_for)) for each in record.classes]
    return Plot(
        "confusion",
        "Of the labels of a class (down), the share that is taken for each class (across): the mean over seeds. What "
        "is right is left out of the colours, so that mistakes show.",
        "Heat map of the confusion matrix; its numbers are in the table.",
        figures.confusion_map(record),
        (Table("Labels down, outputs across", ("", *names), rows),),
    )


def _response_plots(record: ReportRecord) -> list[Plot]:
    if record.best is None:
        return []
    plots, varying, metric = [], record.varying, _label(record.metric)
    if len(varying) > 1:
        first, second = varying[:2]
        names = f"{record.columns[first]} and {record.columns[second]}"
        rest = "" if len(varying) == 2 else ", the other columns at their chosen values"
        caption = f"Median validation {metric} over {names}{rest}; the chosen setting is framed."
        said = f"Heat map of the median validation {metric} over {names}."
        plots.append(Plot("response-map", caption, said, figures.response_map(record, first, second), ()))
    best = record.response[record.best]
    for i in varying:
        name, shown = record.columns[i], record.slice(i)
        others = ", ".join(f"{record.columns[j]} = {best.values[j].text}" for j in varying if j != i)
        what = f"alidation {metric} against {name}" + (f" at {others}" if others else "")
        diverged = sum(s.diverged for s in shown)
        count = f" Crosses count the members that diverged: {diverged} in all." if diverged else ""
        plots.append(
            Plot(
                f"response-{i}",
                f"V{what}: median over seeds, the quartiles (darker) and the range of the members that finished "
                f"(lighter). The ring marks the choice.{count}",
                f"Line plot of the validation {metric} against {name}.",
                figures.response_figure(record, i),
                (_response_table(record, shown, f"V{what}"),),
            )
        )
    return plots


def _score_plots(record: ReportRecord) -> list[Plot]:
    if record.scores is None or not record.scores.summaries[0].n:
        return []
    scores, summary = record.scores, record.scores.summaries[0]
    name = f"{scores.split} {_label(summary.metric)}"
    kind = "fresh seed" if record.kind == "exploration" else "member"
    mean, median = (score(v, summary.metric) for v in (summary.mean, summary.median))
    table = _members(record)
    caption = (
        f"The {name} of {summary.n} {kind}s, a dot each. Below them the mean with one standard deviation either way, "
        "and the median on the bar of the quartiles."
    )
    said = f"Dot plot of the {name}: mean {mean}, median {median}."
    return [Plot("scores", caption, said, figures.scores_figure(scores), () if table is None else (table,))]


def _curve_plots(record: ReportRecord) -> list[Plot]:
    others = {b.name: b for b in record.fits[0].bands} if len(record.fits) > 1 else {}
    titles = ("fresh seeds" if others else "members", "sweep")
    plots = []
    for band in record.fits[len(record.fits) - 1].bands:
        name = _label(band.name)
        caption = f"{name[:1].upper()}{name[1:]}"
        tables = [_band_table(band, f"{caption}, {titles[0]}")]
        if other := others.get(band.name):
            tables.append(_band_table(other, f"{caption}, the sweep's seeds at this setting"))
        last = score(band.q50[-1], band.name)
        said = f"Quantile bands of the {name} over {len(band.q50)} epochs; the last median is {last}."
        figure = figures.curve_figure(band.name, band, other, titles)
        plots.append(Plot(f"curve-{band.name}", caption, said, figure, tuple(tables)))
    return plots


def _path_plots(record: ReportRecord) -> list[Plot]:
    pair = record.pair
    if pair is None or not pair.path:
        return []
    rows = [(f"{alpha:.2f}", number(loss)) for alpha, loss in zip(pair.path, pair.path_losses, strict=True)]
    (a, b), loss = pair.names, _label(pair.loss or "loss")
    caption = (
        f"The test loss ({loss}) at the points (1 − α)a + αb on the straight line from {a} to {b}. The barrier is "
        "its largest rise above the line between the ends."
    )
    said = f"Line plot of the loss from {a} to {b}, with a barrier of {number(pair.barrier, 3)}."
    table = Table(f"Loss on the straight line from {a} to {b}", ("α", loss), rows, 0)
    return [Plot("path", caption, said, figures.path_figure(pair), (table,))]


def _response_table(record: ReportRecord, settings: Sequence[Setting], caption: str) -> Table:
    best = record.response[record.best] if record.best is not None else None
    rows = [
        (
            *(v.text for v in s.values),
            *(score(v, record.metric) for v in (s.least, s.q1, s.median, s.q3, s.most)),
            f"{s.diverged} of {s.seeds}",
        )
        for s in settings
    ]
    head = (*record.columns, "min", "25 %", "median", "75 %", "max", "diverged")
    return Table(caption, head, rows, 0, settings.index(best) if best in settings else None)


def _band_table(band: Band, caption: str) -> Table:
    columns = (band.q05, band.q25, band.q50, band.q75, band.q95)
    count = len(band.q50)
    epochs = sorted({*range(0, count, -(-count // _MOST_ROWS)), count - 1})
    rows = [(str(e + 1), str(band.members[e]), *(score(c[e], band.name) for c in columns)) for e in epochs]
    return Table(caption, ("epoch", "members", "5 %", "25 %", "median", "75 %", "95 %"), rows, 0)


def _key_figures(record: ReportRecord) -> list[tuple[str, str, str]]:
    """What stands large at the top: (value, what it is, in small print)."""
    exploration, keys = record.kind == "exploration", []
    if record.scores is not None and record.scores.summaries[0].n:
        s = record.scores.summaries[0]
        sd = f"± {spread(s.sd, s.metric)} SD · " if s.sd is not None else ""
        kind = "fresh seeds" if exploration else "members"
        what = f"mean {record.scores.split} {_label(s.metric)}"
        keys.append((score(s.mean, s.metric), what, f"{sd}{s.n} {kind}"))
    if record.best is not None:
        how = "chosen among" if exploration else "best of"
        for i in record.chosen_among[:2]:
            values = len({s.values[i].text for s in record.response})
            value = record.response[record.best].values[i].text
            keys.append((value, record.columns[i], f"{how} {values} on validation"))
    keys.append((f"{record.space.dimension:,}", "parameters", f"n, {record.space.dtype}"))
    members, failed = (sum(getattr(fit, name) for fit in record.fits) for name in ("members", "lost"))
    total = seconds_text(sum(fit.seconds for fit in record.fits))
    return [*keys, (f"{members:,}", "networks trained", f"in {total} · {failed} diverged")]


def _facts(record: ReportRecord) -> list[tuple[str, str]]:
    space, data = record.space, record.dataset
    frozen, buffers = (sum(b.size for b in space.blocks if b.place == p) for p in ("frozen", "buffer"))
    rows: list[tuple[str, Any]] = [
        ("coordinates", f"n = {space.dimension:,}, {space.dtype}"),
        ("frozen", f"{frozen:,} numbers, shared by all points" if frozen else "none"),
        ("tied", ", ".join(f"{a} = {b}" for a, b in space.tied) or "none"),
        ("buffers", f"{buffers:,} numbers, one set a point" if buffers else "none"),
        ("one input", space.input_shape is not None and shape_text(space.input_shape)),
    ]
    if space.forward_flops is not None and space.backward_flops is not None:
        said = f"{space.forward_flops:,} FLOP forward, {space.backward_flops:,} backward"
        rows.append(("cost of a sample", said))
    if space.peak_bytes is not None:
        plural = "s" if space.peak_batch != 1 else ""
        rows.append(
            ("peak memory", f"{bytes_text(space.peak_bytes)} in a pass of {space.peak_batch} sample{plural}")
        )
    rows.append(("not counted", ", ".join(space.uncounted)))
    rows.append(("cost", space.cost_problem and f"unknown: {space.cost_problem}"))
    rows.append(("data", data.name))
    if data.train is not None:
        sizes = f"{data.train:,} train, {data.validation or 0:,} validation, {data.test or 0:,} test"
        rows.append(("splits", sizes + (f"; {data.classes} classes" if data.classes is not None else "")))
    rows.append(("columns of the data", "; ".join(data.notes)))
    return [(name, value) for name, value in rows if value]


def _layers(record: ReportRecord) -> Table | None:
    layers = record.space.layers
    if not layers:
        return None
    rows = [
        (r.name or "(itself)", r.type, shape_text(r.output_shape), f"{r.parameters:,}", f"{r.flops:,}")
        for r in layers[:_MOST_ROWS]
    ]
    caption = "Layers, in the order of their calls" + _more(len(layers))
    return Table(caption, ("layer", "type", "output", "parameters", "FLOP forward"), rows, 2)


def _blocks(record: ReportRecord) -> Table:
    blocks = record.space.blocks
    rows = [(b.name, shape_text(b.shape), f"{b.size:,}", b.place) for b in blocks[:_MOST_ROWS]]
    caption = "Where each number lives in p" + _more(len(blocks))
    return Table(caption, ("tensor", "shape", "numbers", "place"), rows)


def _summary(record: ReportRecord) -> Table | None:
    scores = record.scores
    if scores is None:
        return None
    total = len(scores.members) if scores.total is None else scores.total
    diverged = scores.diverged
    if diverged is None:
        diverged = sum(m.status == "diverged" for m in scores.members)
    rows = [
        (
            f"{scores.split} {_label(s.metric)}",
            str(s.n),
            score(s.mean, s.metric),
            spread(words.mean_error(s), s.metric),
            spread(s.sd, s.metric),
            *(score(v, s.metric) for v in (s.min, s.q1, s.median, s.q3, s.max)),
        )
        for s in scores.summaries
    ]
    head = ("score", "n", "mean", "SE of mean", "SD", "min", "25 %", "median", "75 %", "max")
    kind = "fresh seeds" if record.kind == "exploration" else "members"
    return Table(f"Distribution over {kind}; {diverged} of {total} diverged", head, rows)


def _members(record: ReportRecord) -> Table | None:
    scores = record.scores
    if scores is None:
        return None
    rows = [
        (_seed(m), m.status, *(score(v, n) for v, n in zip(m.scores, scores.metrics, strict=True)))
        for m in scores.members[:_MOST_ROWS]
    ]
    of = "Each member" if scores.total is None else f"{len(scores.members):,} of {scores.total:,} members"
    head = ("seed", "status", *(f"{scores.split} {_label(n)}" for n in scores.metrics))
    return Table(of + _more(len(scores.members)), head, rows, 2)


def _failures(fit: FitRecord) -> Table | None:
    if not fit.diverged:
        return None
    rows = [(_seed(m), *(v.text for v in m.values), f"{m.steps:,}") for m in fit.diverged[:_MOST_ROWS]]
    where = f"of the {_NAMES[fit.name]}"
    caption = f"{fit.lost} of {fit.members:,} members {where} diverged" + _more(fit.lost, len(rows))
    return Table(caption, ("seed", *(name for name, _ in fit.columns), "updates made"), rows, 0)


def _pair(record: ReportRecord) -> list[tuple[str, str]]:
    pair = record.pair
    if pair is None:
        return []
    rows = [("point", "the same, bit for bit" if pair.same_point else "different points of one space")]
    if pair.distance is not None:
        l2, relative, cosine = (number(v, n) for v, n in zip(pair.distance[1:], (4, 3, 3), strict=True))
        rows.append(("parameters", f"L2 distance {l2}; relative to their norms {relative}; cosine {cosine}"))
    if pair.output_distance is not None:
        own = f"; the outputs' own spread is {number(pair.output_scale)}" if pair.output_scale else ""
        said = f"RMS distance {number(pair.output_distance)} over {pair.inputs:,} test inputs{own}"
        rows.append(("outputs", said))
    if pair.disagreement is not None:
        rows.append(("predictions", f"differ on {100 * pair.disagreement:.1f} % of the inputs"))
    if pair.barrier is not None:
        highest = number(max(v for v in pair.path_losses if v == v))
        first, last = (number(pair.path_losses[i]) for i in (0, -1))
        said = f"loss {first} and {last} at the ends, {highest} at its highest: a barrier of {number(pair.barrier)}"
        rows.append(("line between", said))
    return rows


def _distances(record: ReportRecord) -> list[tuple[str, str, str, str, float]]:
    blocks = record.pair.blocks[:_MOST_ROWS] if record.pair else ()
    return [
        (b.name, number(b.l2), number(b.relative, 3), number(b.cosine, 3), min(100.0, 50 * b.relative))
        for b in blocks
    ]


def _computed(record: ReportRecord) -> Table:
    lines = {
        "members": lambda f: f"{f.members:,}",
        "ended": lambda f: ", ".join(f"{count:,} {name}" for name, count in f.statuses),
        "updates of all members": lambda f: f"{f.updates:,}",
        "lowering": lambda f: (
            "vmap: members batched" if f.plan.lowering == "vmap" else "loop: one after the other"
        ),
        "shard": lambda f: f"{f.plan.shard:,} member{'s' if f.plan.shard != 1 else ''}",
        "compiled": lambda f: "yes" if f.plan.compiled else "no",
        "why": lambda f: f.plan.reason or "–",
        "without a batched form": lambda f: f.plan.fallback or "–",
        "time": lambda f: f"{seconds_text(f.seconds)}, of which the plan {seconds_text(f.plan.seconds)}",
        "member-steps a second": lambda f: f"{f.rate:,.0f}",
    }
    if not any(f.plan.fallback for f in record.fits):
        del lines["without a batched form"]
    rows = [(name, *(line(fit) for fit in record.fits)) for name, line in lines.items()]
    head = ("", *(_NAMES[f.name] for f in record.fits))
    return Table("How it was computed", head, rows, 1 + len(record.fits))


def _fits(record: ReportRecord) -> list[tuple[str, str]]:
    return [
        (_NAMES[f.name], "; ".join([f"seeds {f.seeds or 'unknown'}", *(f"{n} = {v}" for n, v in f.columns)]))
        for f in record.fits
    ]


def _more(count: int, shown: int = _MOST_ROWS) -> str:
    return f" (the first {_MOST_ROWS}; {count - shown} more)" if count > shown else ""


def _seed(member: Member) -> str:
    return "–" if member.seed is None else str(member.seed)


def _label(metric: str) -> str:
    return metric.replace("_", " ")
