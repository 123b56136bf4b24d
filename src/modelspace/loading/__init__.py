"""Objects named on the command line: the user's own, or an architecture of a package that publishes many.

``file.py:Name`` and ``package.module:Name`` are the user's; ``torchvision:resnet18`` and
``timm:vit_tiny_patch16_224`` are architectures by name, ``hf:path/to/config.json`` one by its configuration. The last
three are built with random weights: nothing is downloaded.
"""

from typing import Any

from modelspace.loading.hugging_face import load_hugging_face
from modelspace.loading.published import load_timm, load_torchvision
from modelspace.loading.python import as_architecture, file_of_target, load_python

__all__ = ["file_of_target", "load_architecture", "load_object"]

_PUBLISHED = {"torchvision": load_torchvision, "timm": load_timm, "hf": load_hugging_face}


def load_object(target: str) -> Any:
    """The object that ``target`` names.

    Args:
        target: ``path/to/file.py:Name``, ``package.module:Name``, ``torchvision:NAME``, ``timm:NAME`` or
            ``hf:path/to/config.json``.

    Returns:
        Whatever the name is bound to (a class, a function, a module instance); of a published architecture, a
        factory.

    Raises:
        ModelspaceError: the form is wrong, the file, module or package is missing or fails to import, or it has no
            such name (the nearest one is given); or it would be called and is Python's own (``os:system``).

    Example:
        >>> load_object("torch.nn:Linear")
        <class 'torch.nn.modules.linear.Linear'>
    """
    kind, _, name = target.partition(":")
    return _PUBLISHED[kind](name) if kind in _PUBLISHED and name else load_python(target)


def load_architecture(target: str) -> Any:
    """The architecture that ``target`` names: an ``nn.Module``'s class, an ``nn.Module``, or a factory.

    Args:
        target: As ``load_object`` takes it.

    Raises:
        ModelspaceError: as ``load_object``; or it is anything else.
    """
    return as_architecture(load_object(target), target)
