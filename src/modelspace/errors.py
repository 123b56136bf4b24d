"""The one kind of error a user's mistake raises, and the nearest name to a mistyped one."""

from collections.abc import Iterable
from difflib import get_close_matches


class ModelspaceError(ValueError):
    """A mistake in what the caller gave: what was received, what was expected, what to do.

    The command line prints it as one line and exits with status 2; it never means a defect of ours.
    """


def first_line(error: BaseException) -> str:
    """An error's first line; its kind's name where it says nothing.

    TorchScript prints its own stack first and the error last, or none where its operations are watched.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if "TorchScript interpreter" not in lines[0]:
        return lines[0]
    said = lines[-1].partition(":")[2].strip()
    return said or "its TorchScript failed; the module before torch.jit.script tells more"


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ModelspaceError:
    """An error for a name that is not known, with the nearest one that is.

    Args:
        kind: What the name names, in the singular: ``"loss"``, ``"data set"``.
        name: What was received.
        known: Every name that would have been accepted.

    Returns:
        The error, to be raised by the caller.
    """
    names = sorted(set(known))
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return ModelspaceError(f"unknown {kind} '{name}': {hint}Known: {', '.join(names)}")
