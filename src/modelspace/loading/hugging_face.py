"""Architectures of Hugging Face's transformers by a configuration file; no weights, no network, no code of others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelspace.errors import ModelspaceError
from modelspace.loading.published import offline, package, refuse_weights, unknown_of_many


def load_hugging_face(path: str) -> Callable[..., Any]:
    """The factory of the model that a configuration describes.

    It makes the class that the configuration names (``"architectures": ["GPT2LMHeadModel"]``) where transformers has
    it, the bare model of its ``model_type`` elsewhere. Code that a configuration points to (``auto_map``) is never
    run, and the cache of generation is off.

    Args:
        path: A ``config.json``, or the folder that holds one.

    Returns:
        A factory whose arguments replace the configuration's entries (``num_hidden_layers=2``).

    Raises:
        ModelspaceError: transformers is missing, the file can't be read, or its ``model_type`` is unknown.
    """
    written = _read(path)
    transformers = package("transformers", "transformers")
    kind = str(written.pop("model_type"))
    known = transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES
    if kind not in known:
        raise unknown_of_many("model_type", kind, known, "transformers.CONFIG_MAPPING")

    def make(**arguments: Any) -> Any:
        refuse_weights(path, arguments)
        # A remote class is asked for under this entry alone.
        entries = {k: v for k, v in {**written, **arguments}.items() if k != "auto_map"}
        with offline(path):
            config = transformers.AutoConfig.for_model(kind, **entries)
            if getattr(config, "use_cache", False):
                config.use_cache = False
            named = _named(transformers, config)
            if named is not None:
                return named(config)
            return transformers.AutoModel.from_config(config, trust_remote_code=False)

    make.__name__ = make.__qualname__ = str((written.get("architectures") or [kind])[0])
    return make


def _read(path: str) -> dict[str, Any]:
    file = Path(path)
    file = file / "config.json" if file.is_dir() else file
    try:
        written = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelspaceError(f"no configuration '{file}': {error.strerror or error}") from error
    except ValueError as error:
        raise ModelspaceError(f"'{file}' is not JSON: {error}") from error
    if not isinstance(written, dict) or not isinstance(written.get("model_type"), str):
        raise ModelspaceError(
            f"'{file}' is no model's configuration: a JSON object with a model_type is expected"
        )
    return written


def _named(transformers: Any, config: Any) -> Any:
    """The class that the configuration names, if it is a model of transformers."""
    names = getattr(config, "architectures", None) or []
    found = getattr(transformers, str(names[0]), None) if names else None
    model = transformers.PreTrainedModel
    return found if isinstance(found, type) and issubclass(found, model) else None
