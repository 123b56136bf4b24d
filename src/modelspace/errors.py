"""The one kind of error a user's mistake raises, the line of the user's that led to one, and the nearest name."""

import os
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from unicodedata import category

# Below it names look alike that have nothing to do with each other: epochs and eps, linear and cosine.
NEAR = 0.7
_SCHEME = sysconfig.get_paths()
_PACKAGES = tuple(_SCHEME[name] + os.sep for name in ("purelib", "platlib"))
_PYTHON = (*(_SCHEME[name] + os.sep for name in ("stdlib", "platstdlib")), "<frozen", "<string>", "<eval")
_OURS = str(Path(__file__).parent) + os.sep
# Networks to try things on, which stand for a user's code.
_EXAMPLES = os.path.realpath(_OURS + "examples") + os.sep
_torch = find_spec("torch")  # not imported: what only reads files needs none of it
_TORCH = str(Path(_torch.origin).parent) + os.sep if _torch and _torch.origin else _OURS


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


def printable(text: str) -> str:
    r"""Write out what a terminal would obey: control characters, marks of direction and lone surrogates.

    Names out of files, folders and tables are a stranger's; escape codes in them move the cursor, rewrite lines and
    set the window's title.

    Args:
        text: Any text. The ends of its lines, tabs and spaces of other scripts stay.

    Example:
        >>> print(printable("a\x1b[31mb"))
        a\x1b[31mb
    """
    if text.isprintable():
        return text
    return "".join(
        c if c in "\n\t" or c.isprintable() or category(c) == "Zs" else c.encode("unicode_escape").decode()
        for c in text
    )


@cache
def is_example(file: str) -> bool:
    """Tell whether a file is one of this library's examples."""
    return os.path.realpath(file).startswith(_EXAMPLES)


def is_ours(file: str) -> bool:
    """Tell whether a file is this library's own code; its examples stand for a user's."""
    return file.startswith(_OURS) and not is_example(file)


def users_line(frames: Iterable[traceback.FrameSummary], *, packages: bool = True) -> str:
    """The innermost of these lines that is the user's, ``line 7 of net.py: code``; or nothing.

    Args:
        frames: Outermost first.
        packages: Whether a package's line stands for it where none of the user's lies between it and this library.
    """
    found = None
    for frame in reversed([*frames]):
        file = frame.filename
        if is_ours(file) and found is not None:
            break  # below stand the lines that called us
        if is_ours(file) or file.startswith(_TORCH):
            continue
        if file.startswith(_PACKAGES):
            found = found or (frame if packages else None)
        elif not file.startswith(_PYTHON):
            found = frame
            break
    if found is None:
        return ""
    file = Path(found.filename)
    file = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    return f"line {found.lineno} of {file}" + (f": {found.line}" if found.line else "")


def at_line(error: BaseException) -> str:
    """Where an error of the user's code arose, as the end of a message: ``; at line 7 of net.py: code``."""
    line = users_line(traceback.extract_tb(error.__traceback__))
    return f"; at {line}" if line else ""


def told(error: BaseException) -> str:
    """An error of the user's code in one line: its kind, what it says, and the line that it came from."""
    kind, said = type(error).__name__, first_line(error)
    return f"{kind if said == kind else f'{kind}: {said}'}{at_line(error)}"


def of_the_user(error: Exception) -> Exception:
    """What a line of the user's raised, as one line; any other error itself, and lack of memory."""
    line = users_line(traceback.extract_tb(error.__traceback__), packages=False)
    alone = isinstance(error, ModelspaceError | MemoryError | BrokenPipeError) or "memory" in str(error)
    return error if alone or not line else ModelspaceError(f"your code fails: {told(error)}")


def _is_of_a_kind_of_the_users(error: Exception) -> bool:
    """Whether the error's class stands in a file of the user's."""
    file = getattr(sys.modules.get(type(error).__module__), "__file__", None)
    return file is not None and not file.startswith((_OURS, _TORCH, *_PACKAGES, *_PYTHON))


@contextmanager
def the_users_told(*, own_kinds: bool = False) -> Iterator[None]:
    """Raise what a line of the user's raises within the block as one line.

    Args:
        own_kinds: Whether errors of the user's own classes are told too, as on the command line. In Python a caller
            may be waiting for one.
    """
    try:
        yield
    except Exception as error:
        if (_is_of_a_kind_of_the_users(error) and not own_kinds) or (own := of_the_user(error)) is error:
            raise
        raise own from error


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that a mistyped one stands for, if one is near.

    Exchanged letters count for more than the ratio of equal ones gives them: rya is ray.
    """
    names = sorted(set(known))
    near = [n for n in names if sorted(n) == sorted(name)] or get_close_matches(name, names, n=1, cutoff=NEAR)
    return near[0] if near else None


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
    near = nearest(name, names)
    hint = f"did you mean '{near}'? " if near else ""
    return ModelspaceError(f"unknown {kind} '{name}': {hint}Known: {', '.join(names)}")
