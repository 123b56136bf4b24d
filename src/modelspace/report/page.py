"""The page: a record's sentences, tables and figures, laid out by ``page.html.j2``.

The page loads nothing: styles and plotly.js are inlined, and its content security policy allows the scripts
that are in it, by hash, no other, and no connection.
"""

from datetime import datetime

from modelspace.report import document, figures, losses_page, words
from modelspace.report.parts import Plot, Table
from modelspace.report.record import Band, FitRecord, Member, ReportRecord, Setting
from modelspace.show import bytes_text, number, score, seconds_text, shape_text, spread

_MOST_ROWS = 200


def page(record: ReportRecord) -> str:
    """The whole HTML page of a record.

    Args:
        record: What is shown.

    Returns:
        One self-contained document.
    """
    plots = _plots(record)
    return document.rendered(
        "page.html.j2",
        record=record,
        plots=plots,
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
        responses=_response_table(record, list(record.response), "All settings") if record.columns else None,
        quartiles=", ".join(
            score(v, record.metric) for s in record.response[:1] for v in (s.q1, s.median, s.q3)
        ),
        summary=_summary(record),
        members=_members(record),
        failures=[t for t in (_failures(fit) for fit in record.fits) if t],
        pair=_pair(record),
        distances=_distances(record),
        compared=losses_page.tables(record.losses),
        terms=losses_page.terms(record.losses),
        computed=_computed(record),
        fits=_fits(record),
    )


def _plots(record: ReportRecord) -> dict[str, list[Plot]]:
    return {
        "response": _response_plots(record),
        "scores": _score_plots(record),
        "curves": _curve_plots(record),
        "path": _path_plots(record),
        "losses": losses_page.plots(record.losses),
    }


def _response_plots(record: ReportRecord) -> list[Plot]:
    if record.best is None:
        return []
    plots = []
    varying = record.varying
    score_name = _label(record.metric)
    if len(varying) > 1:
        first, second = varying[:2]
        names = f"{record.columns[first]} and {record.columns[second]}"
        rest = "" if len(varying) == 2 else ", the other columns at their chosen values"
        plots.append(
            Plot(
                "response-map",
                f"Median validation {score_name} over {names}{rest}; the chosen setting is framed.",
                f"Heat map of the median validation {score_name} over {names}.",
                figures.response_map(record, first, second),
                (),
            )
        )
    for i in varying:
        name = record.columns[i]
        others = ", ".join(
            f"{record.columns[j]} = {record.response[record.best].values[j].text}" for j in varying if j != i
        )
        at = f" at {others}" if others else ""
        shown = record.slice(i)
        diverged = sum(s.diverged for s in shown)
        count = f" Crosses count the members that diverged: {diverged} in all." if diverged else ""
        plots.append(
            Plot(
                f"response-{i}",
                f"Validation {score_name} against {name}{at}: median over seeds, the quartiles (darker) "
                "and the range "
                f"of the members that finished (lighter). The ring marks the choice.{count}",
                f"Line plot of the validation {score_name} against {name}.",
                figures.response_figure(record, i),
                (_response_table(record, shown, f"Validation {score_name} against {name}{at}"),),
            )
        )
    return plots


def _score_plots(record: ReportRecord) -> list[Plot]:
    if record.scores is None or not record.scores.summaries[0].n:
        return []
    scores, summary = record.scores, record.scores.summaries[0]
    kind = "fresh seed" if record.kind == "exploration" else "member"
    table = _members(record)
    return [
        Plot(
            "scores",
            f"The {scores.split} {_label(summary.metric)} of {summary.n} {kind}s, a dot each. Below them "
            "the mean with "
            "one standard deviation either way, and the median on the bar of the quartiles.",
            f"Dot plot of the {scores.split} {_label(summary.metric)}: mean "
            f"{score(summary.mean, summary.metric)}, "
            f"median {score(summary.median, summary.metric)}.",
            figures.scores_figure(scores),
            () if table is None else (table,),
        )
    ]


def _curve_plots(record: ReportRecord) -> list[Plot]:
    fit = record.fits[-1]
    others = {b.name: b for b in record.fits[0].bands} if len(record.fits) > 1 else {}
    plots = []
    for band in fit.bands:
        name = _label(band.name)
        titles = ("fresh seeds" if others else "members", "sweep")
        other = others.get(band.name)
        tables = [_band_table(band, f"{name[:1].upper()}{name[1:]}, {titles[0]}")]
        if other:
            tables.append(
                _band_table(other, f"{name[:1].upper()}{name[1:]}, the sweep's seeds at this setting")
            )
        plots.append(
            Plot(
                f"curve-{band.name}",
                f"{name[:1].upper()}{name[1:]}",
                f"Quantile bands of the {name} over {len(band.q50)} epochs; the last median is "
                f"{score(band.q50[-1], band.name)}.",
                figures.curve_figure(band.name, band, other, titles),
                tuple(tables),
            )
        )
    return plots


def _path_plots(record: ReportRecord) -> list[Plot]:
    pair = record.pair
    if pair is None or not pair.path:
        return []
    rows = [(f"{alpha:.2f}", number(loss)) for alpha, loss in zip(pair.path, pair.path_losses, strict=True)]
    a, b = pair.names
    return [
        Plot(
            "path",
            f"The test loss ({_label(pair.loss or 'loss')}) at the points (1 − α)a + αb on the straight "
            f"line from {a} to "
            f"{b}. The barrier is its largest rise above the line between the ends.",
            f"Line plot of the loss from {a} to {b}, with a barrier of {number(pair.barrier, 3)}.",
            figures.path_figure(pair),
            (
                Table(
                    f"Loss on the straight line from {a} to {b}", ("α", _label(pair.loss or "loss")), rows, 0
                ),
            ),
        )
    ]


def _response_table(record: ReportRecord, settings: list[Setting], caption: str) -> Table:
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
    marked = settings.index(best) if best in settings else None
    return Table(caption, head, rows, 0, marked)


def _band_table(band: Band, caption: str) -> Table:
    columns = (band.q05, band.q25, band.q50, band.q75, band.q95)
    rows = [
        (str(epoch + 1), str(band.members[epoch]), *(score(c[epoch], band.name) for c in columns))
        for epoch in _thinned(len(band.q50))
    ]
    return Table(caption, ("epoch", "members", "5 %", "25 %", "median", "75 %", "95 %"), rows, 0)


def _thinned(count: int) -> list[int]:
    """At most ``_MOST_ROWS`` of so many rows, the last included."""
    step = -(-count // _MOST_ROWS)
    return sorted({*range(0, count, step), count - 1})


def _key_figures(record: ReportRecord) -> list[tuple[str, str, str]]:
    """What stands large at the top: (value, what it is, in small print)."""
    keys = []
    if record.scores is not None and record.scores.summaries[0].n:
        s = record.scores.summaries[0]
        sd = f"± {spread(s.sd, s.metric)} SD · " if s.sd is not None else ""
        kind = "fresh seeds" if record.kind == "exploration" else "members"
        keys.append(
            (score(s.mean, s.metric), f"mean {record.scores.split} {_label(s.metric)}", f"{sd}{s.n} {kind}")
        )
    for i in record.chosen_among[:2]:
        if record.best is not None:
            values = len({s.values[i].text for s in record.response})
            how = "chosen among" if record.kind == "exploration" else "best of"
            keys.append(
                (
                    record.response[record.best].values[i].text,
                    record.columns[i],
                    f"{how} {values} on validation",
                )
            )
    keys.append((f"{record.space.dimension:,}", "parameters", f"n, {record.space.dtype}"))
    members = sum(fit.members for fit in record.fits)
    failed = sum(fit.lost for fit in record.fits)
    total = sum(fit.seconds for fit in record.fits)
    keys.append((f"{members:,}", "networks trained", f"in {seconds_text(total)} · {failed} diverged"))
    return keys


def _facts(record: ReportRecord) -> list[tuple[str, str]]:
    space, data = record.space, record.dataset
    frozen = sum(b.size for b in space.blocks if b.place == "frozen")
    buffers = [b for b in space.blocks if b.place == "buffer"]
    rows = [("coordinates", f"n = {space.dimension:,}, {space.dtype}")]
    rows.append(("frozen", f"{frozen:,} numbers, shared by all points" if frozen else "none"))
    rows.append(("tied", ", ".join(f"{a} = {b}" for a, b in space.tied) or "none"))
    rows.append(
        ("buffers", f"{sum(b.size for b in buffers):,} numbers, one set a point" if buffers else "none")
    )
    if space.input_shape is not None:
        rows.append(("one input", shape_text(space.input_shape)))
    if space.forward_flops is not None and space.backward_flops is not None:
        rows.append(
            ("cost of a sample", f"{space.forward_flops:,} FLOP forward, {space.backward_flops:,} backward")
        )
    if space.peak_bytes is not None:
        rows.append(
            (
                "peak memory",
                f"{bytes_text(space.peak_bytes)} in a pass of {space.peak_batch} "
                f"sample{'s' if space.peak_batch != 1 else ''}",
            )
        )
    if space.uncounted:
        rows.append(("not counted", ", ".join(space.uncounted)))
    if space.cost_problem:
        rows.append(("cost", f"unknown: {space.cost_problem}"))
    rows.append(("data", data.name))
    if data.train is not None:
        classes = f"; {data.classes} classes" if data.classes is not None else ""
        rows.append(
            (
                "splits",
                f"{data.train:,} train, {data.validation or 0:,} validation, {data.test or 0:,} "
                f"test{classes}",
            )
        )
    return rows


def _layers(record: ReportRecord) -> Table | None:
    if not record.space.layers:
        return None
    rows = [
        (r.name or "(itself)", r.type, shape_text(r.output_shape), f"{r.parameters:,}", f"{r.flops:,}")
        for r in record.space.layers[:_MOST_ROWS]
    ]
    more = len(record.space.layers) - _MOST_ROWS
    caption = "Layers, in the order of their calls" + (
        f" (the first {_MOST_ROWS}; {more} more)" if more > 0 else ""
    )
    return Table(caption, ("layer", "type", "output", "parameters", "FLOP forward"), rows, 2)


def _blocks(record: ReportRecord) -> Table:
    blocks = record.space.blocks
    rows = [(b.name, shape_text(b.shape), f"{b.size:,}", b.place) for b in blocks[:_MOST_ROWS]]
    more = len(blocks) - _MOST_ROWS
    caption = "Where each number lives in p" + (f" (the first {_MOST_ROWS}; {more} more)" if more > 0 else "")
    return Table(caption, ("tensor", "shape", "numbers", "place"), rows)


def _summary(record: ReportRecord) -> Table | None:
    if record.scores is None:
        return None
    scores = record.scores
    total = len(scores.members) if scores.total is None else scores.total
    diverged = sum(m.status == "diverged" for m in scores.members)
    diverged = diverged if scores.diverged is None else scores.diverged
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
    if record.scores is None:
        return None
    scores = record.scores
    rows = [
        (
            "–" if m.seed is None else str(m.seed),
            m.status,
            *(score(v, n) for v, n in zip(m.scores, scores.metrics, strict=True)),
        )
        for m in scores.members[:_MOST_ROWS]
    ]
    more = len(scores.members) - _MOST_ROWS
    of = "Each member" if scores.total is None else f"{len(scores.members):,} of {scores.total:,} members"
    caption = of + (f" (the first {_MOST_ROWS}; {more} more)" if more > 0 else "")
    head = ("seed", "status", *(f"{scores.split} {_label(n)}" for n in scores.metrics))
    return Table(caption, head, rows, 2)


def _failures(fit: FitRecord) -> Table | None:
    if not fit.diverged:
        return None
    columns = tuple(name for name, _ in fit.columns)

    def row(m: Member) -> tuple[str, ...]:
        return ("–" if m.seed is None else str(m.seed), *(v.text for v in m.values), f"{m.steps:,}")

    more = fit.lost - min(_MOST_ROWS, len(fit.diverged))
    rest = f" (the first {_MOST_ROWS}; {more} more)" if more > 0 else ""
    caption = f"{fit.lost} of {fit.members:,} members {_WHERE[fit.name]} diverged{rest}"
    return Table(caption, ("seed", *columns, "updates made"), [row(m) for m in fit.diverged[:_MOST_ROWS]], 0)


def _label(metric: str) -> str:
    return metric.replace("_", " ")


_WHERE = {"sweep": "of the sweep", "fresh": "of the fresh seeds", "run": "of the run"}
_NAMES = {"sweep": "sweep", "fresh": "fresh seeds", "run": "run"}


def _pair(record: ReportRecord) -> list[tuple[str, str]]:
    pair = record.pair
    if pair is None:
        return []
    rows = [("point", "the same, bit for bit" if pair.same_point else "different points of one space")]
    if pair.distance is not None:
        d = pair.distance
        rows.append(
            (
                "parameters",
                f"L2 distance {number(d.l2)}; relative to their norms {number(d.relative, 3)}; "
                f"cosine {number(d.cosine, 3)}",
            )
        )
    if pair.output_distance is not None:
        own = f"; the outputs' own spread is {number(pair.output_scale)}" if pair.output_scale else ""
        rows.append(
            ("outputs", f"RMS distance {number(pair.output_distance)} over {pair.inputs:,} test inputs{own}")
        )
    if pair.disagreement is not None:
        rows.append(("predictions", f"differ on {100 * pair.disagreement:.1f} % of the inputs"))
    if pair.barrier is not None:
        finite = [v for v in pair.path_losses if v is not None]
        rows.append(
            (
                "line between",
                f"loss {number(pair.path_losses[0])} and {number(pair.path_losses[-1])} at the ends, "
                f"{number(max(finite))} at its highest: a barrier of {number(pair.barrier)}",
            )
        )
    return rows


def _distances(record: ReportRecord) -> list[tuple[str, str, str, str, float]]:
    if record.pair is None:
        return []
    return [
        (
            b.name,
            number(b.l2),
            number(b.relative, 3),
            number(b.cosine, 3),
            min(100.0, 50 * (b.relative or 0.0)),
        )
        for b in record.pair.blocks[:_MOST_ROWS]
    ]


def _computed(record: ReportRecord) -> Table:
    def status(fit: FitRecord) -> str:
        return ", ".join(f"{count:,} {name}" for name, count in fit.statuses)

    lines = {
        "members": lambda f: f"{f.members:,}",
        "ended": status,
        "updates of all members": lambda f: f"{f.updates:,}",
        "lowering": lambda f: (
            "vmap: members batched" if f.lowering == "vmap" else "loop: one after the other"
        ),
        "shard": lambda f: f"{f.shard:,} member{'s' if f.shard != 1 else ''}",
        "compiled": lambda f: "yes" if f.compiled else "no",
        "why": lambda f: f.reason or "–",
        "without a batched form": lambda f: f.fallback or "–",
        "time": lambda f: f"{seconds_text(f.seconds)}, of which the plan {seconds_text(f.plan_seconds)}",
        "member-steps a second": lambda f: f"{f.rate:,.0f}",
    }
    if not any(f.fallback for f in record.fits):
        del lines["without a batched form"]
    rows = [(name, *(line(fit) for fit in record.fits)) for name, line in lines.items()]
    return Table(
        "How it was computed", ("", *(_NAMES[f.name] for f in record.fits)), rows, 1 + len(record.fits)
    )


def _fits(record: ReportRecord) -> list[tuple[str, str]]:
    rows = []
    for fit in record.fits:
        columns = "; ".join(f"{name} = {values}" for name, values in fit.columns)
        rows.append((_NAMES[fit.name], f"seeds {fit.seeds or 'unknown'}{'; ' + columns if columns else ''}"))
    return rows
