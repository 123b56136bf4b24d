"""Packages that only one exporter needs, and what to type where they are missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from modelspace.errors import ModelspaceError


@contextmanager
def needed(extra: str) -> Iterator[None]:
    """What is imported within comes with an extra of this package.

    Args:
        extra: The extra's name, which is also the exporter's.

    Raises:
        ModelspaceError: it is not installed, or can't be imported.
    """
    try:
        yield
    except ImportError as error:
        raise ModelspaceError(
            f"exporting to {extra} needs a package that can't be imported ({error}): "
            f"pip install 'torch-modelspace[{extra}]'"
        ) from error
