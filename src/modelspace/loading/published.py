"""Architectures by the name under which torchvision or timm publishes them; their weights are never fetched."""

import importlib
import inspect
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from typing import Any

import torch

from modelspace.errors import ModelspaceError

_WEIGHTS = ("weights", "weights_backbone", "pretrained", "pretrained_cfg", "checkpoint_path")


def load_torchvision(name: str) -> Callable[..., Any]:
    """The factory of a torchvision architecture.

    Args:
        name: As ``torchvision.models.list_models()`` has it: ``resnet18``.

    Raises:
        ModelspaceError: torchvision is missing, or has no such architecture.
    """
    models = package("torchvision.models", "torchvision")
    known = models.list_models()
    if name.lower() not in known:
        raise unknown_of_many("torchvision architecture", name, known, "torchvision.models.list_models()")
    builder = models.get_model_builder(name)
    # Where it is left out, some builders fetch the weights of their backbone.
    none = {k: None for k in _WEIGHTS if k in inspect.signature(builder).parameters}

    def make(**arguments: Any) -> Any:
        refuse_weights(name, arguments)
        with offline(name):
            return builder(**none, **arguments)

    return _called(make, name)


def load_timm(name: str) -> Callable[..., Any]:
    """The factory of a timm architecture.

    Args:
        name: As ``timm.list_models()`` has it: ``vit_tiny_patch16_224``, with or without the tag of its weights.

    Raises:
        ModelspaceError: timm is missing, or has no such architecture.
    """
    timm = package("timm", "timm")
    plain = name.partition(".")[0]
    if not timm.is_model(plain):
        raise unknown_of_many("timm architecture", plain, timm.list_models(), "timm.list_models()")

    def make(**arguments: Any) -> Any:
        refuse_weights(name, arguments)
        with offline(name):
            return timm.create_model(name, pretrained=False, **arguments)

    return _called(make, plain)


def package(module: str, install: str) -> Any:
    """An optional package's module.

    Raises:
        ModelspaceError: it is not installed, or fails when it is imported.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModelspaceError(
            f"this target needs {install}, and there is no {error.name}: install it with pip install {install}"
        ) from error
    except Exception as error:
        raise ModelspaceError(
            f"{module} can't be imported: {type(error).__name__}: {error} (is this build of {install} made for the "
            "torch that is installed?)"
        ) from error


def unknown_of_many(kind: str, name: str, known: Iterable[str], listed: str) -> ModelspaceError:
    """An error for an unknown name among hundreds: the nearest, and where they are all listed."""
    names = list(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return ModelspaceError(f"unknown {kind} '{name}': {hint}{len(names)} are known, and {listed} lists them")


def refuse_weights(name: str, arguments: dict[str, Any]) -> None:
    """Refuse to fetch trained weights."""
    asked = [k for k in _WEIGHTS if k in arguments]
    if asked:
        raise ModelspaceError(
            f"{name} is built with random weights and nothing is downloaded, so it takes no {asked[0]}"
        )


@contextmanager
def offline(name: str) -> Iterator[None]:
    """Build ``name`` without the network and without what was once fetched, by the libraries' own switches.

    They are huggingface_hub's offline mode, with an empty cache, and the two functions with which torch.hub fetches.

    Raises:
        ModelspaceError: the block asks for a file that is not here.
    """

    def refuse(url: str, *_: Any, **__: Any) -> Any:
        raise _FetchError(url)

    with ExitStack() as stack:
        empty = stack.enter_context(tempfile.TemporaryDirectory())
        fetching = dict.fromkeys(("load_state_dict_from_url", "download_url_to_file"), refuse)
        switches: list[tuple[Any, dict[str, Any]]] = [(torch.hub, {"_hub_dir": empty, **fetching})]
        hub = sys.modules.get("huggingface_hub")
        if hub is not None:
            switches.append((hub.constants, {"HF_HUB_OFFLINE": True, "HF_HUB_CACHE": empty}))
        for module, values in switches:
            for key, value in values.items():
                stack.callback(setattr, module, key, getattr(module, key))
                setattr(module, key, value)
        kept = {key: os.environ.get(key) for key in _OFFLINE}
        stack.callback(_set_environment, kept)
        _set_environment(dict.fromkeys(_OFFLINE, "1"))
        try:
            yield
        except Exception as error:
            asked = next((e for e in _causes(error) if type(e).__name__ in _FETCHING), None)
            if asked is None:
                raise
            address = re.search(r"https?://[^\s:]+", str(asked))
            raise ModelspaceError(
                f"{name} asks for {address.group() if address else 'a file of the Hugging Face hub'}, and nothing is "
                "downloaded: give the whole architecture, that of a backbone too, on this machine"
            ) from error


class _FetchError(Exception):
    """A file that would be fetched."""


_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_FETCHING = ("_FetchError", "OfflineModeIsEnabled", "LocalEntryNotFoundError")


def _set_environment(values: Mapping[str, str | None]) -> None:
    for key, value in values.items():
        if value is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = value


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _called(make: Callable[..., Any], name: str) -> Callable[..., Any]:
    make.__name__ = make.__qualname__ = name
    return make
