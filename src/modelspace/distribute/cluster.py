"""Ray itself: found, started or connected to, and left as it was."""

import importlib
import importlib.util
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from modelspace.errors import ModelspaceError, first_line
from modelspace.progress import notice

_MODE, _TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"
_KNOCK_SECONDS = 10.0


def check_installed() -> None:
    """Whether there is Ray.

    Raises:
        ModelspaceError: there is none; how to get it.
    """
    if importlib.util.find_spec("ray") is None:
        raise ModelspaceError("runner 'ray' needs Ray: pip install 'torch-modelspace[ray]'")


@contextmanager
def connected(address: str | None, cpus: int | None) -> Iterator[Any]:
    """Ray, connected; a Ray of our own is shut down after.

    Args:
        address: A cluster's, ``"auto"`` for the one of this machine; where None, ``RAY_ADDRESS`` names one, or else
            one is started here for the time being.
        cpus: The cores of one that is started here; all where None.

    Raises:
        ModelspaceError: no cluster answers at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = address or os.environ.get("RAY_ADDRESS")
    if address is None:
        _protect()
    ray: Any = importlib.import_module("ray")
    if ray.is_initialized():
        yield ray
        return
    quiet = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        ray.init("local", num_cpus=cpus, include_dashboard=False, **quiet)
        notice(_listening())
    else:
        try:
            _knock(address)
            ray.init(address, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            reason = first_line(error)
            raise ModelspaceError(
                f"no Ray cluster answers at {address}: {reason}. 'ray start --head' starts one, and says its address"
            ) from error
    printing: Any = importlib.import_module("ray._private.worker")
    try:
        # Ray tells of lost workers on standard output, which is not its own here; this is the switch that it has.
        printing._worker_logs_enabled = False
        yield ray
    finally:
        ray.shutdown()
        printing._worker_logs_enabled = True


def _knock(address: str) -> None:
    """Whether anybody listens at host:port; Ray itself would go on asking for minutes.

    Raises:
        OSError: nobody does.
    """
    host, separator, port = address.rpartition("://")[2].rpartition(":")
    if separator and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=_KNOCK_SECONDS).close()


def _protect() -> None:
    """Have the Ray that will be started ask for a token, which is nowhere written down.

    Ray reads these when it is first imported; for one that was imported before, its own default stands.
    """
    if _MODE not in os.environ and "ray" not in sys.modules:
        os.environ[_MODE] = "token"
        os.environ[_TOKEN] = secrets.token_hex(32)


def _listening() -> str:
    protected = os.environ.get(_MODE) == "token"
    guarded = "who connects needs its token" if protected else f"no token is asked for ({_MODE}=token does)"
    return (
        f"started Ray on this machine for this run; its ports listen on every network interface: {guarded}, and only "
        "a firewall keeps others from reaching them"
    )
