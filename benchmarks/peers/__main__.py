"""The side of a peer's own process: ``python -m benchmarks.peers NAME JSON``.

It makes ``Peer(**arguments)``, says what that found, then answers each line of standard input, ``{"seconds": s}``,
with the milliseconds a step and member that its turn took. Each answer is one line of JSON.
"""

import importlib
import json
import os
import sys
from typing import Any, TextIO

from benchmarks.peers import PEERS

_LENGTH = 100  # of a reason, for a table


def main(name: str, arguments: dict[str, Any], answers: TextIO) -> None:
    """Serve until standard input ends, or something fails."""

    def say(found: dict[str, Any]) -> None:
        answers.write(json.dumps(found) + "\n")
        answers.flush()

    try:
        peer = importlib.import_module(f"benchmarks.peers.{PEERS[name]}").Peer(**arguments)
        say(peer.facts)
        while line := sys.stdin.readline():
            say({"milliseconds": peer.milliseconds(json.loads(line)["seconds"])})
    except ModuleNotFoundError as error:
        say({"absent": f"{error.name} is not installed"})
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        say({"absent": text.splitlines()[0][:_LENGTH]})


if __name__ == "__main__":
    # Whatever a library prints goes to standard error.
    with os.fdopen(os.dup(1), "w") as own:
        os.dup2(2, 1)
        main(sys.argv[1], json.loads(sys.argv[2]), own)
