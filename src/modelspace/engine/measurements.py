"""What was measured on this machine, remembered in the user's cache folder.

One small JSON file for each (architecture, shapes, device, versions): seconds a member and step of every way of
computing that was ever timed there. The folder is the platform's own for caches; the environment variable
``MODELSPACE_CACHE`` names another, or none where it is empty.

One more file is of trials: two ways to compute the same operation, both tried once for each shape. They are
remembered with a run that is written down, too: the ways differ in the last bits.
"""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from functools import cache
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import torch
from platformdirs import user_cache_path
from torch.utils._python_dispatch import _disable_current_modes

from modelspace.atomic import whole_file
from modelspace.errors import first_line
from modelspace.processes import in_processes
from modelspace.progress import notice

_KEEP_SECONDS = 30 * 24 * 3600.0
_SHORTEST_SECONDS = 1e-12  # more than nothing: times are divided by
_LONGEST_SECONDS = 24 * 3600.0  # that a call or a compilation takes
_LARGEST_BYTES, _LARGEST_NUMBER = 2**20, 1e308
_QUIET = 0.8  # of the time on the clock, which the process computed
_TURNS, _TURN_SECONDS = 5, 3e-4  # of a trial


class Timing(NamedTuple):
    """How long a call took, or a member's share of it; and whether the process had a processor of its own meanwhile.

    What was timed beside other work may be many times too long, and is not remembered.
    """

    seconds: float
    quiet: bool = True


class Measurements:
    """Seconds by name, from this run and from earlier ones of the same fingerprint; None remembers nothing.

    Other figures may be put among the ``seconds`` too.
    """

    def __init__(self, fingerprint: str | None):
        self._path = _path(fingerprint)
        self.seconds: dict[str, float] = _read(self._path) if self._path else {}
        self._before = dict(self.seconds)
        self._disturbed: set[str] = set()

    def of(self, name: str, measure: Callable[[], Timing]) -> float:
        """Return the seconds of this name, as measured now or before."""
        if name not in self.seconds:
            seconds, quiet = measure()
            self.seconds[name] = max(seconds, _SHORTEST_SECONDS)
            if not quiet:
                self._disturbed.add(name)
        return self.seconds[name]

    @property
    def new(self) -> bool:
        """Whether anything was measured in this run."""
        return self.seconds != self._before

    def keep(self) -> None:
        """Write to the cache folder what is new and was measured undisturbed; a folder that refuses is left alone."""
        if self._path is None or not self.new:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # A way for which memory had no room may have it another time.
            kept = {n: v for n, v in self.seconds.items() if n not in self._disturbed and v < inf}
            text = json.dumps({"written": time.time(), "seconds": kept, "checksum": _checksum(kept)})
            with whole_file(self._path) as temporary:
                Path(temporary).write_text(text)
        except Exception:
            return


def fingerprint(*parts: Any) -> str:
    """Name what times depend on: the parts' texts, this machine and the versions.

    Args:
        *parts: Anything whose ``repr`` tells it apart from others.
    """
    machine = (platform.processor() or platform.machine(), os.cpu_count(), torch.get_num_threads())
    text = repr((parts, machine, torch.__version__, platform.python_version()))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _path(name: str | None) -> Path | None:
    folder = os.environ.get("MODELSPACE_CACHE")
    if name is None or folder == "":
        return None
    return (Path(folder) if folder else user_cache_path("modelspace")) / "plans" / f"{name}.json"


def _read(path: Path) -> dict[str, float]:
    """Read what a file holds; nothing where it is missing or old, nor where it is damaged, which is said."""
    try:
        if not path.is_file():
            return {}
        if path.stat().st_size > _LARGEST_BYTES:
            raise ValueError("it is too large")
        written, seconds = _checked(json.loads(path.read_bytes()))
    except OSError:
        return {}
    except (ValueError, RecursionError) as error:
        why = first_line(error) if isinstance(error, ValueError) else "it is nested too deeply"
        notice(f"what the plan measured earlier is measured anew: {path} is damaged ({why})")
        return {}
    return {} if abs(time.time() - written) > _KEEP_SECONDS else seconds


def _checked(content: Any) -> tuple[float, dict[str, float]]:
    """Return when a file was written, and its figures.

    Raises:
        ValueError: it is not what ``keep`` writes.
    """
    if not isinstance(content, dict) or content.keys() != {"written", "seconds", "checksum"}:
        raise ValueError("an object of written, seconds and checksum is expected")
    written, seconds = content["written"], content["seconds"]
    if not isinstance(seconds, dict):
        raise ValueError("seconds is no object")
    for name, value in (("written", written), *seconds.items()):
        if type(value) not in (int, float) or not abs(value) < _LARGEST_NUMBER:
            raise ValueError(f"{name} is no number")
    seconds = {name: float(value) for name, value in seconds.items()}
    for name, value in seconds.items():
        if not 0 < value <= _LONGEST_SECONDS:
            raise ValueError(f"{value:g} seconds for {name}")
    if content["checksum"] != _checksum(seconds):
        raise ValueError("its checksum differs")
    return float(written), seconds


def _checksum(seconds: dict[str, float]) -> str:
    return hashlib.sha256(json.dumps(seconds, sort_keys=True).encode()).hexdigest()[:32]


def timing_of_calls(
    step: Callable[..., Any], arguments: tuple[Any, ...], budget: float, most: float = 50
) -> Timing:
    """Take the mean time of a few calls after one that warms up: 3 or more, for ``budget`` seconds, at most 50.

    No more than ``most``, either, but for the 3. The mean and not the least: on a busy machine threads wait for each
    other now and then, and a run pays for that.
    """
    step(*arguments)
    _wait()
    calls = 0
    began, used = time.perf_counter(), time.process_time()
    while calls < 3 or (time.perf_counter() - began < budget and calls < min(most, 50)):
        step(*arguments)
        calls += 1
    _wait()
    seconds = time.perf_counter() - began
    return Timing(seconds / calls, time.process_time() - used > _QUIET * seconds)


def timing_in_processes(
    step: Callable[..., Any], arguments: tuple[Any, ...], workers: int, budget: float
) -> Timing:
    """Take the time of a call when so many processes call at once, over their number; infinite where one was lost."""

    def body(index: int, send: Callable[[dict[str, Any]], None]) -> None:
        send(timing_of_calls(step, arguments, budget)._asdict())

    messages = list(in_processes(workers, body))
    timings = [Timing(**message) for message in messages if "seconds" in message]
    if len(timings) < workers:
        lost = next((message["lost"] for message in messages if "lost" in message), "a worker process ended")
        notice(f"{lost} while the plan was measured: processes are not measured")
        return Timing(inf, quiet=False)
    mean = sum(timing.seconds for timing in timings) / workers
    return Timing(mean / workers, all(timing.quiet for timing in timings))


# Trials


def gain(name: str, trial: Callable[[], tuple[float, float]]) -> float:
    """Return how many times as fast as the usual way the other one is.

    ``trial`` gives the seconds of both. It is called outside of all modes and transformations, once for a name, and
    leaves no trace in a program that is being made.
    """
    trials = _trials()
    if name not in trials.seconds:
        with _disable_current_modes(), torch._C.DisableTorchFunction(), torch.no_grad():
            usual, other = trial()
        trials.seconds[name] = usual / other
        trials.keep()
    return trials.seconds[name]


def seconds_of(call: Callable[[], Any]) -> float:
    """Return the least of a few turns, each of as many calls as take a fraction of a millisecond."""
    call()
    _wait()
    began = time.perf_counter()
    call()
    _wait()
    once = time.perf_counter() - began
    calls = 1 + int(_TURN_SECONDS / once)
    turns = [once]
    for _ in range(_TURNS if once < 0.01 else 1):
        began = time.perf_counter()
        for _ in range(calls):
            call()
        _wait()
        turns.append((time.perf_counter() - began) / calls)
    return min(turns)


def known_gains() -> dict[str, float]:
    """Return the gains that this process knows."""
    return dict(_trials().seconds)


def adopt_gains(gains: Mapping[str, float]) -> None:
    """Take over the gains of a run that is to go on bit for bit."""
    _trials().seconds.update(gains)


@cache
def _trials() -> Measurements:
    return Measurements(fingerprint("trials"))


def _wait() -> None:
    """Wait until a GPU, if this process uses one, has done what it was told: its work goes on behind the calls."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
