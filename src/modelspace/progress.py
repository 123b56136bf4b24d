"""A progress bar for anything over two seconds: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from modelspace.errors import printable
from modelspace.show import Terminal

_SILENT_SECONDS = 2.0
_LOOK_SECONDS = 0.05  # between two looks at the bar
_LINE_SECONDS = 10.0
_shown: list[str] = []


class _Rate(ProgressColumn):
    """Throughput in the task's unit."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {task.fields['unit']}/s")


def notice(text: str) -> None:
    """A line on standard error, about something that takes a while or that a reader should know."""
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()


@contextmanager
def progress(description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """A function that is told how much more has been done, and shows it on standard error.

    Nothing is shown in the first two seconds. On a terminal a bar follows, with throughput and the time left,
    and vanishes at the end; elsewhere a plain line every ten seconds. Within another progress nothing is shown.

    Args:
        description: What is going on, with its size: ``"fitting 192 members"``.
        total: The whole amount, in units.
        unit: The unit, in the plural: ``"member-steps"``.

    Yields:
        ``advance(amount)``.
    """
    if _shown:  # a part of something that is shown already
        yield lambda amount: None
        return
    console = Terminal(stderr=True)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    task = bar.add_task(description, total=total, unit=unit)
    start = last_line = time.monotonic()
    done = 0
    drawn = False
    next_look = start + _SILENT_SECONDS

    def advance(amount: int) -> None:
        nonlocal done, drawn, last_line, next_look
        done += amount
        now = time.monotonic()
        if now < next_look and done < total:  # a small net makes a thousand steps a second
            return
        next_look = now + _LOOK_SECONDS
        bar.update(task, completed=done)
        if now - start < _SILENT_SECONDS:
            return
        if console.is_terminal and not drawn:
            bar.start()
            drawn = True
        elif not console.is_terminal and now - last_line >= _LINE_SECONDS and done < total:
            last_line = now
            rate = done / (now - start)
            left = (total - done) / rate if rate else float("inf")
            notice(f"{description}: {100 * done / total:.0f} %, {rate:,.0f} {unit}/s, {left:.0f} s left")

    _shown.append(description)
    try:
        yield advance
    finally:
        _shown.pop()
        if drawn:
            bar.stop()
