"""Where in the user's source something happens, read from the frames that are running."""

import sys
import sysconfig
from pathlib import Path
from types import FrameType, TracebackType

import torch

import modelspace.errors

_OURS = str(Path(modelspace.errors.__file__).parent)
_TORCH = str(Path(torch.__file__).parent)
_STANDARD = sysconfig.get_paths()["stdlib"]


def user_line() -> str:
    """``file.py:12`` of the innermost running line that is neither ours, PyTorch's nor Python's; or nothing."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if _is_users(frame.f_code.co_filename):
            return _text(frame.f_code.co_filename, frame.f_lineno)
        if _begins(frame):
            return ""  # above us stand the lines that called the doctor: they are not the model's
        frame = frame.f_back
    return ""


def line_of(error: BaseException | None) -> str:
    """``file.py:12`` of the user's line that an exception passed last; nothing where it passed none."""
    found = ""
    trail: TracebackType | None = error.__traceback__ if error is not None else None
    while trail is not None:
        frame = trail.tb_frame
        if _begins(frame):
            found = ""
        elif _is_users(frame.f_code.co_filename):
            found = _text(frame.f_code.co_filename, trail.tb_lineno)
        trail = trail.tb_next
    return found


def place(path: str, line: str = "", kind: str = "") -> str:
    """A module's path, its class and a line of source as one phrase."""
    module = f"{path} ({kind})" if path and kind else path or kind
    return ", ".join(part for part in (module, line) if part) or "the model"


def _begins(frame: FrameType) -> bool:
    """Whether a frame is the one in which the doctor runs the model."""
    return frame.f_code.co_name == "run_recorded" and frame.f_code.co_filename.startswith(_OURS)


def _is_users(file: str) -> bool:
    if file.startswith((_OURS, _TORCH)) or "jaxtyping" in file:
        return False
    return "site-packages" in file or not file.startswith((_STANDARD, "<frozen"))


def _text(file: str, line: int) -> str:
    path = Path(file)
    try:
        path = path.relative_to(Path.cwd())
    except ValueError:
        path = Path(path.name)
    return f"{path}:{line}"
