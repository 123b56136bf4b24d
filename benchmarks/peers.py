"""What a population is held against beside the plain loop: each peer in a process of its own, or in several.

A process sleeps between its turns, so neither its threads nor its memory traffic disturb whoever's turn it is, and
JAX and PyTorch never share a process.

``python -m benchmarks.peers NAME JSON`` is the process's side. It calls the peer's function, which returns facts and
a turn, says the facts, then answers each line of standard input, the seconds of a turn, with the milliseconds a step
and member that it took. Each answer is one line of JSON.
"""

import json
import os
import pkgutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import cycle, islice
from statistics import median
from typing import Any, TextIO

import numpy as np

from benchmarks import ROOT

PEERS = {"torch.func": "peer_torch:ensemble", "jax": "peer_jax:ensemble", "processes": "peer_torch:process"}
OWN = ("forecaster",)  # networks of which each has samples of its own
_LENGTH = 100  # of a reason, for a table
_LEAST = 2  # steps of a turn, however long each
_ON_ONE_GPU = 4  # processes of one member each

Work = Callable[..., object]


class Peer:
    """A peer that takes turns until it fails; then it is absent, and says why.

    So many processes of it compute at once, each with its share of the work and so many threads.
    """

    def __init__(self, name: str, processes: int, threads: int, **arguments: Any):
        began = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks.peers", name, json.dumps(arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        where = {"cwd": ROOT, "env": os.environ | variables(threads, arguments["device"])}
        self._children = [subprocess.Popen(command, **pipes, **where) for _ in range(processes)]
        self._said = {"members": 1, "steps": None, "compile_seconds": None, "tried": {}, "absent": None}
        self._said |= {"name": name, "milliseconds": []} | self._answer()
        self._said["members"] *= processes
        # Imports, making the members, compiling where it compiles.
        self._said["startup_seconds"] = time.perf_counter() - began

    def turn(self, seconds: float) -> None:
        """Take one turn of about so many seconds."""
        if self._said["absent"]:
            return
        for child in self._children:
            with suppress(BrokenPipeError):  # its answer will say that it ended
                child.stdin.write(f"{seconds}\n")
                child.stdin.flush()
        answer = self._answer()
        if "absent" in answer:
            self._said |= answer | {"milliseconds": []}
        else:
            self._said["milliseconds"].append(answer["milliseconds"] / len(self._children))

    @property
    def result(self) -> dict[str, Any]:
        """What it said so far, and the summary."""
        return summarised(self._said)

    def close(self) -> None:
        """End its processes, and let go of them."""
        for child in self._children:
            child.kill()
            child.communicate()

    def _answer(self) -> dict[str, Any]:
        """Of all its processes: one that is absent, or the slowest one's."""
        answers = []
        for child in self._children:
            line = child.stdout.readline()
            ended = None if line else {"absent": f"its process ended with status {child.wait()}"}
            answers.append(ended or json.loads(line))
        return max(answers, key=lambda answer: ("absent" in answer, answer.get("milliseconds", 0.0)))


def summarised(peer: dict[str, Any]) -> dict[str, Any]:
    """A peer's raw numbers and their summary.

    Whole members a second, where each has a process of its own: starting left out, and each process started anew.
    """
    ms = median(peer["milliseconds"]) if peer["milliseconds"] else None
    left_out = started = None
    if ms and peer["steps"]:
        seconds = ms * peer["steps"] / 1e3
        left_out, started = 1 / seconds, 1 / (peer["startup_seconds"] / peer["members"] + seconds)
    return peer | {"ms": ms, "members_a_second": left_out, "members_a_second_started": started}


@contextmanager
def running(
    asked: dict[str, dict[str, Any]], network: str, batches: Iterable[tuple[Any, ...]], device: str
) -> Iterator[list[Peer]]:
    """Start peers one after the other, idle until it is their turn. All of them end with the block.

    Beside its own arguments each has those of all: the network, the file of an epoch's batches, the device. One
    process a member is as many as there are cores, or four on a GPU.
    """
    import torch  # here, for a process with JAX has no PyTorch

    threads = torch.get_num_threads()
    alone = threads if device == "cpu" else _ON_ONE_GPU
    with tempfile.TemporaryDirectory(prefix="modelspace-bench-") as folder, ExitStack() as ending:
        path = f"{folder}/batches.npz"  # so that a peer needs nothing but NumPy to have them
        np.savez(path, *map(np.stack, zip(*batches, strict=True)))
        started: list[Peer] = []
        for name, own in asked.items():
            shares = (alone, 1) if name == "processes" else (1, threads)
            peer = Peer(name, *shares, network=network, batches=path, device=device, **own)
            ending.callback(peer.close)
            started.append(peer)
        yield started


def variables(threads: int, device: str) -> dict[str, str]:
    """The environment of a peer's process, as far as it differs from this one's."""
    kind = device.partition(":")[0]
    # By default JAX takes three quarters of a GPU's memory, which the others need too.
    shared = {} if kind == "cpu" else {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    # The second is JAX's own pool.
    return {"OMP_NUM_THREADS": str(threads), "NPROC": str(threads), "JAX_PLATFORMS": kind} | quiet | shared


def read(path: str, members: int = 0) -> list[tuple[np.ndarray, ...]]:
    """The batches of a file; or each member's own of them, stacked, where it is said how many there are."""
    with np.load(path) as file:
        parts = list(file.values())
    own = (np.arange(members) + np.arange(len(parts[0]))[:, None]) % len(parts[0])
    return list(zip(*([part[i] for i in own] if members else part for part in parts), strict=True))


class Pace:
    """Steps in turns of about so many seconds; two are made at once, of which the first warms up, or compiles.

    ``step`` makes one, of so many members, given a batch, or only starts it: then ``wait`` returns when the steps so
    far are done.
    """

    def __init__(self, step: Work, batches: Sequence[Any], wait: Work, members: int):
        self._step, self._wait, self._members = step, wait, members
        self._batches = cycle(batches)
        self.first_ms = self._timed(1)
        self.step_ms = self._timed(1)

    def turn(self, seconds: float) -> float:
        """The milliseconds a step and member."""
        self.step_ms = self._timed(max(_LEAST, round(seconds * 1e3 / self.step_ms)))
        return self.step_ms / self._members

    def _timed(self, steps: int) -> float:
        began = time.perf_counter()
        for batch in islice(self._batches, steps):
            self._step(batch)
        self._wait()
        return (time.perf_counter() - began) * 1e3 / steps


def serve(name: str, arguments: dict[str, Any], answers: TextIO) -> None:
    """Answer until standard input ends, or something fails."""

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        facts, turn = pkgutil.resolve_name(f"benchmarks.{PEERS[name]}")(**arguments)
        say(facts)
        while line := sys.stdin.readline():
            say({"milliseconds": turn(float(line))})
    except ModuleNotFoundError as error:
        say({"absent": f"{error.name} is not installed"})
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        say({"absent": text.splitlines()[0][:_LENGTH]})


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "w") as own:
        os.dup2(2, 1)  # whatever a library prints goes to standard error
        serve(sys.argv[1], json.loads(sys.argv[2]), own)
