"""What the plan measured, remembered in the user's cache folder.

One small JSON file for each (architecture, shapes, device, versions): seconds a member and step of every way of
computing that was ever timed there. The folder is the platform's own for caches; the environment variable
``MODELSPACE_CACHE`` names another, or none where it is empty.
"""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from platformdirs import user_cache_path

from modelspace.atomic import whole_file
from modelspace.engine.workers import in_processes
from modelspace.errors import first_line
from modelspace.progress import notice

Lowering = Literal["vmap", "loop"]
_KEEP_SECONDS = 30 * 24 * 3600.0
_SHORTEST_SECONDS = 1e-12  # more than nothing: times are divided by
_LONGEST_SECONDS = 24 * 3600.0  # that a call or a compilation takes
_LARGEST_BYTES = 2**20
_QUIET = 0.8  # of the time on the clock, which the process computed


@dataclass(frozen=True)
class Way:
    """One way to compute a population.

    Attributes:
        lowering: ``"vmap"`` (members batched) or ``"loop"`` (one after the other).
        shard: Members in a shard.
        compiled: Whether the step is one compiled program.
        threads: Threads within an operation.
        workers: Processes that share the shards.
    """

    lowering: Lowering
    shard: int
    compiled: bool = False
    threads: int = 1
    workers: int = 1


class Timing(NamedTuple):
    """How long something took.

    Attributes:
        seconds: For one call; or a member's share of them.
        quiet: Whether the process had a processor of its own meanwhile. What was timed beside other work may be many
            times too long, and is not remembered.
    """

    seconds: float
    quiet: bool = True

    def shared_by(self, members: int) -> "Timing":
        """A member's share."""
        return self._replace(seconds=self.seconds / members)


class Measurements:
    """Seconds by way, from this run and from earlier ones of the same fingerprint.

    Args:
        fingerprint: What the times depend on; None remembers nothing.
    """

    def __init__(self, fingerprint: str | None):
        self._path = _path(fingerprint)
        self._seconds: dict[str, float] = _read(self._path) if self._path else {}
        self._before = dict(self._seconds)
        self._disturbed: set[str] = set()

    def of(self, way: Way, measure: Callable[[], Timing]) -> float:
        """Seconds a member and step of this way, as measured now or before."""
        key = json.dumps(asdict(way))
        if key not in self._seconds:
            seconds, quiet = measure()
            self._seconds[key] = max(seconds, _SHORTEST_SECONDS)
            if not quiet:
                self._disturbed.add(key)
        return self._seconds[key]

    def known(self, name: str) -> float | None:
        """A figure kept under a name, if there is one."""
        return self._seconds.get(name)

    def all(self) -> dict[str, float]:
        """Every figure, by name."""
        return dict(self._seconds)

    def note(self, name: str, seconds: float) -> None:
        """Keep a figure under a name."""
        self._seconds[name] = seconds

    @property
    def new(self) -> bool:
        """Whether anything was measured in this run."""
        return self._seconds != self._before

    def keep(self) -> None:
        """Write to the cache folder what is new and was measured undisturbed; a folder that refuses is left alone."""
        if self._path is None or not self.new:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # A way for which memory had no room may have it another time.
            kept = {
                key: value
                for key, value in self._seconds.items()
                if key not in self._disturbed and value < inf
            }
            text = json.dumps({"written": time.time(), "seconds": kept, "checksum": _checksum(kept)})
            with whole_file(self._path) as temporary:
                Path(temporary).write_text(text)
        except Exception:
            return


def fingerprint(*parts: Any) -> str:
    """A name for what times depend on: the parts' texts, this machine and the versions.

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
    """What a file holds; nothing where it is missing or old, nor where it is damaged, which is said."""
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


def _checked(found: Any) -> tuple[float, dict[str, float]]:
    """When a file was written, and its figures.

    Raises:
        ValueError: it is not what ``keep`` writes.
    """
    if not isinstance(found, dict) or found.keys() != {"written", "seconds", "checksum"}:
        raise ValueError("an object of written, seconds and checksum is expected")
    seconds = found["seconds"]
    if not isinstance(seconds, dict):
        raise ValueError("seconds is no object")
    times = {name: _number(name, value) for name, value in seconds.items()}
    for name, value in times.items():
        if not 0 < value <= _LONGEST_SECONDS:
            raise ValueError(f"{value:g} seconds for {name}")
    if found["checksum"] != _checksum(times):
        raise ValueError("its checksum differs")
    return _number("written", found["written"]), times


def _number(name: str, value: Any) -> float:
    try:
        if type(value) in (int, float):
            return float(value)
    except OverflowError:
        pass
    raise ValueError(f"{name} is no number")


def _checksum(seconds: dict[str, float]) -> str:
    return hashlib.sha256(json.dumps(seconds, sort_keys=True).encode()).hexdigest()[:32]


def wait() -> None:
    """Until a GPU, if this process uses one, has done what it was told: its work goes on behind the calls."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def timing_of_calls(step: Callable[..., Any], arguments: tuple[Any, ...], budget: float) -> Timing:
    """The mean time of a few calls after one that warms up: at least three, for ``budget`` seconds, at most fifty.

    The mean and not the least: on a busy machine threads wait for each other now and then, and a run pays for that.
    """
    step(*arguments)
    wait()
    calls = 0
    began, used = time.perf_counter(), time.process_time()
    while calls < 3 or (time.perf_counter() - began < budget and calls < 50):
        step(*arguments)
        calls += 1
    wait()
    seconds = time.perf_counter() - began
    return Timing(seconds / calls, time.process_time() - used > _QUIET * seconds)


def timing_in_processes(
    step: Callable[..., Any], arguments: tuple[Any, ...], workers: int, budget: float
) -> Timing:
    """The time of a call when so many processes call at once, over their number; infinite where one was lost."""

    def body(index: int, send: Callable[[dict[str, Any]], None]) -> None:
        send(timing_of_calls(step, arguments, budget)._asdict())

    messages = list(in_processes(workers, body))
    found = [Timing(**message) for message in messages if "seconds" in message]
    if len(found) < workers:
        lost = next((message["lost"] for message in messages if "lost" in message), "a worker process ended")
        notice(f"{lost} while the plan was measured: processes are not measured")
        return Timing(inf, quiet=False)
    mean = sum(each.seconds for each in found) / workers
    return Timing(mean, all(each.quiet for each in found)).shared_by(workers)
