"""The side of the benchmark: a peer's process, or several of one peer that compute at once."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.record import Peer

_ROOT = Path(__file__).resolve().parents[2]


class Contender:
    """A peer that takes turns until it fails; then it is absent, and says why.

    Args:
        name: One of ``PEERS``.
        processes: How many of it, each with its share of the work.
        threads: Of each process.
        device: Where it computes.
        **arguments: Of its ``Peer``; plain values.
    """

    def __init__(self, name: str, processes: int, threads: int, device: str = "cpu", **arguments: Any):
        began = time.perf_counter()
        self._children = [_start(name, threads, {"device": device, **arguments}) for _ in range(processes)]
        self._milliseconds: list[float] = []
        self._absent: str | None = None
        found = self._answers()
        self._peer = Peer(
            name,
            found.get("members", 1) * processes,
            time.perf_counter() - began,
            steps=found.get("steps"),
            compile_seconds=found.get("compile_seconds"),
            tried=found.get("tried", {}),
        )

    def turn(self, seconds: float) -> None:
        """One turn of about so many seconds."""
        if self._absent:
            return
        for child in self._children:
            _tell(child, {"seconds": seconds})
        found = self._answers()
        if not self._absent:
            self._milliseconds.append(found["milliseconds"] / len(self._children))

    @property
    def result(self) -> Peer:
        """What it found so far."""
        kept = () if self._absent else tuple(self._milliseconds)
        return replace(self._peer, milliseconds=kept, absent=self._absent)

    def kill(self) -> None:
        """End its processes."""
        for child in self._children:
            child.kill()

    def close(self) -> None:
        """End its processes, and let go of them."""
        self.kill()
        for child in self._children:
            child.communicate()

    def _answers(self) -> dict[str, Any]:
        """Of every process; the slowest one's figures."""
        answers = [_answer(child) for child in self._children]
        self._absent = next((a["absent"] for a in answers if "absent" in a), None)
        return max(answers, key=lambda a: a.get("milliseconds", 0.0))


def _start(name: str, threads: int, arguments: dict[str, Any]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.peers", name, json.dumps(arguments)],
        cwd=_ROOT,
        env=os.environ | _variables(threads, arguments["device"]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _variables(threads: int, device: str) -> dict[str, str]:
    """The environment of a peer's process, as far as it differs from this one's."""
    count, (kind, _, _) = str(threads), device.partition(":")
    settings = {
        "OMP_NUM_THREADS": count,
        "NPROC": count,  # JAX's own pool
        "JAX_PLATFORMS": kind,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONWARNINGS": "ignore",
    }
    if kind != "cpu":
        # By default JAX takes three quarters of the GPU's memory, which the others need too.
        settings["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    return settings


def _tell(child: "subprocess.Popen[str]", message: dict[str, Any]) -> None:
    assert child.stdin is not None
    try:
        child.stdin.write(json.dumps(message) + "\n")
        child.stdin.flush()
    except BrokenPipeError:
        return  # its answer will say that it ended


def _answer(child: "subprocess.Popen[str]") -> dict[str, Any]:
    assert child.stdout is not None
    line = child.stdout.readline()
    if line:
        return json.loads(line)
    return {"absent": f"its process ended with status {child.wait()}"}
