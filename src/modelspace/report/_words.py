"""What a record says, in plain sentences."""

import math

from modelspace.report._record import ReportRecord, Setting, Summary
from modelspace.show import number, percent_like, score, spread


def verdict(record: ReportRecord) -> list[str]:
    """Return the finding, one sentence an item: the distribution first, never the best seed."""
    sentences = [_headline(record), _spread(record), _by_loss(record), _failures(record), _two(record)]
    if any(fit.interrupted for fit in record.fits):
        sentences.append("The run was interrupted: this is what was finished until then.")
    return [s for s in sentences if s]


def chosen_text(record: ReportRecord, *, varied_only: bool = False) -> str:
    """``lr = 0.0285, weight_decay = 0``; empty where nothing is a column."""
    if record.best is None:
        return ""
    values = record.response[record.best].values
    shown = record.varying if varied_only else range(len(values))
    return ", ".join(f"{record.columns[i]} = {values[i].text}" for i in shown)


def choice_remarks(record: ReportRecord) -> list[str]:
    """What a careful reader asks of the choice: is it at an edge, is it sharp?"""
    remarks: list[str] = []
    if record.best is None:
        return remarks
    best = record.response[record.best]
    for i in record.chosen_among:
        numbers = sorted({n for s in record.response if (n := s.values[i].number) is not None})
        at = best.values[i].number
        if len(numbers) > 1 and at in (numbers[0], numbers[-1]):
            side = "smallest" if at == numbers[0] else "largest"
            remarks.append(
                f"The chosen {record.columns[i]} is the {side} that was tried: the best may lie beyond it."
            )
    near = [s for s in record.rivals if s is not best and _within(s, best, record.higher_is_better)]
    if near and len(record.response) > 1:
        which = ""
        if len(near) <= 4:
            which = ": " + "; ".join(_setting_text(record, s) for s in near)
        settings = "setting has its" if len(near) == 1 else "settings have their"
        remarks.append(
            f"The choice is not sharp: {len(near)} other {settings} median within the chosen one's "
            f"quartiles{which}."
        )
    return remarks


def reading_notes(record: ReportRecord) -> list[tuple[str, str]]:
    """Say how to read the page: what was chosen on what, and which randomness the spread holds."""
    last, error = record.fits[len(record.fits) - 1], sampling_error(record)
    own_order = any(name == "data_seed" and "," in values for name, values in last.columns)
    order = "and in the order of the data."
    if not own_order:
        order = "alone: all saw the same data in the same order and the same split."
    notes = [
        (
            "Choice and report are apart.",
            "The setting was chosen by the median over seeds on the validation split; the numbers at the top are of "
            "fresh seeds, which the choice never saw, on the test split, which nothing was chosen by.",
        )
        if record.kind == "exploration"
        else (
            "These are validation scores.",
            "A plain run has no test. If the setting shown was picked by these very numbers, they flatter it: fit "
            "fresh seeds there and evaluate them on test data before you believe them.",
        ),
        (
            "What the spread holds.",
            f"Members differ in their initialisation (and dropout, if there is any) {order} Other samples of data "
            "would add to it, often more than initialisation does.",
        ),
    ]
    if error is not None:
        text = (
            f"With {record.dataset.test:,} test samples the standard error of one accuracy is about "
            f"√(p(1 − p)/N) = {100 * error:.2f} points. All seeds meet the same samples, so more seeds do not "
            "reduce it; it is what another test set of this size would change."
        )
        notes.append(("The test set is finite.", text))
    text = (
        "In the choice a diverged member counts as the worst. The distribution is over members that did not diverge, "
        "with the number that did beside it."
    )
    notes.append(("Diverged members are counted, not hidden.", text))
    if record.pair is not None and record.pair.barrier is not None:
        text = (
            "Hidden units can be permuted without changing the function, so part of the distance and of the barrier "
            "between two points may be mere labelling; the disagreement in predictions is not."
        )
        notes.append(("A barrier is not yet two functions.", text))
    return notes


def sampling_error(record: ReportRecord) -> float | None:
    """√(p(1 − p)/N), the standard error of one accuracy on N test samples; None where it has no meaning."""
    scores, size = record.scores, record.dataset.test
    if scores is None or scores.split != "test" or not size or not percent_like(scores.metrics[0]):
        return None
    p = scores.summaries[0].mean
    return None if p is None else math.sqrt(max(0.0, p * (1 - p)) / size)


def mean_error(summary: Summary) -> float | None:
    """SD/√n, the standard error of the mean over seeds."""
    return None if summary.sd is None or not summary.n else summary.sd / math.sqrt(summary.n)


def _headline(record: ReportRecord) -> str:
    where = chosen_text(record)
    at = f"At {where}" if where else "At the settings given"
    if record.scores is None or not record.scores.summaries[0].n:
        space, data = record.space.title, record.dataset.name
        if record.losses is not None and record.best is None and record.response:
            return f"{space} was fitted on {data} under several losses, whose values are no one score to rank by."
        if record.kind == "run" and any(name == "finished" for name, _ in record.fits[0].statuses):
            return f"{space} was fitted on {data} without validation: there are only its training curves."
        return f"No member of {space} finished on {data}: there is nothing to report."
    summary = record.scores.summaries[0]
    swept = len(record.rivals)
    how = ""
    if swept > 1:
        choice = "chosen among" if record.kind == "exploration" else "the best of"
        how = f", {choice} {swept} settings on the validation split,"
    seeds = "fresh seed" if record.kind == "exploration" else "member"
    seeds += "" if summary.n == 1 else "s"
    sd = (
        f" with a standard deviation of {spread(summary.sd, summary.metric)}"
        if summary.sd is not None
        else ""
    )
    return (
        f"{at}{how or ','} {record.space.title} reaches a {record.scores.split} "
        f"{summary.metric.replace('_', ' ')} of "
        f"{score(summary.mean, summary.metric)} on {record.dataset.name}: the mean of {summary.n} "
        f"{seeds}{sd}."
    )


def _spread(record: ReportRecord) -> str:
    summary = record.scores.summaries[0] if record.scores is not None else None
    if summary is None or summary.n < 4:
        return ""
    q1, q3 = (score(value, summary.metric) for value in (summary.q1, summary.q3))
    text = f"Half of them lie between {q1} and {q3}."
    error = sampling_error(record)
    if error is None or summary.sd is None:
        return text
    side = "smaller" if summary.sd < error else "larger"
    return (
        f"{text} The standard deviation over seeds is {side} than the sampling error of one accuracy on "
        f"{record.dataset.test:,} test samples, about {100 * error:.2f} points."
    )


def _two(record: ReportRecord) -> str:
    pair = record.pair
    if pair is None or pair.disagreement is None:
        return ""
    line = ""
    if pair.barrier is not None:
        height = f"a barrier of {number(pair.barrier, 3)} in loss"
        line = f"; the straight line between them climbs {height}"
        if pair.barrier == 0:
            line = "; the loss on the straight line between them climbs no barrier"
    return (
        f"Two of the fresh networks, {pair.names[0]} and {pair.names[1]}, predict differently on "
        f"{100 * pair.disagreement:.1f} % of the {pair.inputs:,} test inputs{line}."
    )


def _by_loss(record: ReportRecord) -> str:
    if record.losses is None or record.losses.comparison is None:
        return ""
    found = record.losses.comparison
    known = [(each.accuracy.mean, each) for each in found.results if each.accuracy.mean is not None]
    if len(known) < 2:
        return ""
    ranked = [each for _, each in sorted(known, key=lambda pair: -pair[0])]
    shown = ranked if len(ranked) <= 5 else [*ranked[:2], *ranked[-2:]]
    texts = [
        f"{each.loss} {score(each.accuracy.mean, 'accuracy')}"
        + (f" (SD {spread(each.accuracy.sd, 'accuracy')})" if each.accuracy.sd is not None else "")
        for each in shown
    ]
    some = "" if len(shown) == len(ranked) else f", the first and last two of {len(ranked)}"
    return f"By loss, on equal terms, the mean {found.split} accuracy is{some}: {'; '.join(texts)}."


def _failures(record: ReportRecord) -> str:
    parts = []
    for fit in record.fits:
        what = {"sweep": "in the sweep", "fresh": "among the fresh seeds"}.get(fit.name, "")
        if fit.diverged:
            parts.append(f"{fit.lost} of {fit.members:,} {what}".strip())
    total = sum(fit.members for fit in record.fits)
    return f"Diverged: {', '.join(parts)}." if parts else f"None of the {total:,} members trained diverged."


def _within(setting: Setting, best: Setting, higher: bool) -> bool:
    if setting.median is None or best.q1 is None or best.q3 is None:
        return False
    return setting.median >= best.q1 if higher else setting.median <= best.q3


def _setting_text(record: ReportRecord, setting: Setting) -> str:
    shown = record.varying
    return ", ".join(f"{record.columns[i]} = {setting.values[i].text}" for i in shown)
