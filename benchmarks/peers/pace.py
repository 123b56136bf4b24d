"""Turns of about so many seconds, from steps whose length only shows when they are made."""

import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import Any

_LEAST = 2  # steps of a turn, however long each


class Pace:
    """Steps in turns; two are made at once, of which the first warms up, or compiles.

    Args:
        step: Makes one, given a batch.
        batches: Shown one after the other, again and again.
        wait: Returns when the steps so far are done; for those that only start them.

    Attributes:
        first_ms: Of the first step.
        step_ms: A step of the last turn.
    """

    def __init__(
        self,
        step: Callable[[Any], object],
        batches: Sequence[Any],
        wait: Callable[[], object] = lambda: None,
    ):
        self._step, self._wait = step, wait
        self._batches = cycle(batches)
        self.first_ms = self._timed(1)
        self.step_ms = self._timed(1)

    def turn(self, seconds: float) -> float:
        """The milliseconds a step over about so many seconds."""
        self.step_ms = self._timed(max(_LEAST, round(seconds * 1e3 / self.step_ms)))
        return self.step_ms

    def _timed(self, steps: int) -> float:
        began = time.perf_counter()
        for batch in islice(self._batches, steps):
            self._step(batch)
        self._wait()
        return (time.perf_counter() - began) * 1e3 / steps
