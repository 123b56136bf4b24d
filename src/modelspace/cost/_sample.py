"""One sample's shapes and types, from which a batch of any size is made: as given, or guessed and tried out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from modelspace.cost._anatomy import anatomy
from modelspace.errors import ModelspaceError
from modelspace.show import shape_text
from modelspace.trace import Spec, WithoutValues

LENGTH = 128
# The usual sizes of images first, then any small one.
_SIZES = (224, 32, 28, 64, 96, 128, 256, 299, 384, *range(4, 28))
_BATCH = 3
_CHANNELS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Sample:
    """What one sample is.

    Attributes:
        inputs: The positional inputs, shapes without the batch.
        named: The keyword inputs.
        guessed: Where shapes were guessed, the reason; None where they were given.
        values: Samples of the one input, for a forward that reads values; None where none were given.
    """

    inputs: tuple[Spec, ...]
    named: Mapping[str, Spec] = field(default_factory=dict)
    guessed: str | None = None
    values: Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """The first input's shape."""
        return next(iter([*self.inputs, *self.named.values()])).shape

    def batch(self, size: int) -> dict[str, Any]:
        """The arguments ``inputs`` and ``kwargs`` of an anatomy, for so many samples.

        Example:
            >>> Sample((Spec((3,)),)).batch(2)["inputs"][0].shape
            (2, 3)
        """
        if self.values is not None:
            return {"inputs": (self.values[torch.arange(size) % len(self.values)],), "kwargs": {}}

        def of(spec: Spec) -> Spec:
            return replace(spec, shape=(size, *spec.shape))

        return {
            "inputs": tuple(of(spec) for spec in self.inputs),
            "kwargs": {name: of(spec) for name, spec in self.named.items()},
        }

    def __str__(self) -> str:
        """``3×224×224``, or ``128 integers``; several with commas."""
        parts = [_text(spec) for spec in self.inputs]
        return ", ".join([*parts, *(f"{name}: {_text(spec)}" for name, spec in self.named.items())])


def _text(spec: Spec) -> str:
    if spec.dtype.is_complex:
        return f"{shape_text(spec.shape)} complex"
    below = f" below {spec.below}" if spec.below else ""
    return shape_text(spec.shape) + ("" if spec.dtype.is_floating_point else f" integers{below}")


def _floating(module: nn.Module) -> torch.dtype:
    """The type of a module's inputs that are no integers: that of its first real parameter, or else complex one."""
    kinds = [p.dtype for p in module.parameters() if p.is_floating_point() or p.is_complex()]
    return next((kind for kind in kinds if kind.is_floating_point), (kinds or [torch.float32])[0])


def shape_of(given: tuple[int, ...] | Spec | Tensor | None) -> tuple[int, ...] | None:
    """One sample's shape; None where none is given.

    Raises:
        ModelspaceError: samples are given, and there are none.
    """
    if isinstance(given, Tensor):
        if given.ndim == 0 or not len(given):
            raise ModelspaceError(
                f"samples are a tensor [samples, …] with one or more of them; received shape {list(given.shape)}"
            )
        return tuple(given.shape[1:])
    return given.shape if isinstance(given, Spec) else given


def sample_of(
    module: nn.Module,
    input_shape: tuple[int, ...] | Spec | Tensor | None,
    input_dtype: torch.dtype | None,
) -> Sample:
    """The sample of the given shape, its type found out where it isn't given; a guess where no shape is."""
    if input_shape is None:
        return guessed(module)
    if isinstance(input_shape, Spec):
        return Sample((input_shape,))
    if isinstance(input_shape, Tensor):
        plain = _floating(module) if input_shape.is_floating_point() else input_shape.dtype
        values = input_shape.to(input_dtype or plain)
        return Sample((Spec(tuple(values.shape[1:]), values.dtype),), values=values)
    if input_dtype is not None:
        return Sample((Spec(tuple(input_shape), input_dtype),))
    plain = Sample((Spec(tuple(input_shape), _floating(module)),))
    if any(isinstance(layer, nn.Embedding | nn.EmbeddingBag) for layer in module.modules()):
        tokens = Sample((Spec(tuple(input_shape), torch.long),))
        for sample in (tokens, plain):
            try:
                anatomy(module, backward=False, **sample.batch(2))
            except WithoutValues:
                raise
            except ModelspaceError:
                continue
            return sample
    return plain


def guessed(module: nn.Module) -> Sample:
    """One sample of a module's inputs: the first guess on which its forward runs and keeps the batch apart.

    Known are the inputs of Hugging Face's, timm's and torchvision's models; elsewhere the first layers tell:
    ``in_features``, channels (with a size that is tried), an embedding, a recurrence with ``batch_first``.

    Args:
        module: Any module.

    Returns:
        The sample, with the reason of the guess.

    Raises:
        ModelspaceError: nothing tells it, or the module runs on none of the guesses.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(49, 10))
        >>> sample = guessed(net)
        >>> str(sample), sample.guessed
        ('49', '1 (Linear) takes 49 features')
    """
    candidates = [found] if (found := _published(module)) else [*_from_layers(module)]
    for sample in candidates:
        if _runs(module, sample):
            return sample
    tried = ", ".join(dict.fromkeys(str(sample) for sample in candidates[:4]))
    more = f" and {len(candidates) - 4} more sizes" if len(candidates) > 4 else ""
    raise ModelspaceError(
        f"the layers of {type(module).__name__} don't tell what it takes "
        f"({f'it runs on none of {tried}{more}' if tried else 'none has a known input'}): give one sample's shape, "
        "like input_shape=(3, 224, 224)"
    )


def _runs(module: nn.Module, sample: Sample) -> bool:
    """A view may mix samples: then the first dimension is no longer the batch."""
    try:
        found = anatomy(module, backward=False, **sample.batch(_BATCH))
    except WithoutValues:
        raise
    except ModelspaceError:
        return False
    outputs = [shape for shape in found.calls[0].output_shapes if shape]
    return all(shape[0] == _BATCH for shape in outputs)


def _published(module: nn.Module) -> Sample | None:
    if hasattr(module, "main_input_name") and hasattr(module, "config"):
        return _hugging_face(module, module.config)
    size: Any = getattr(module, "pretrained_cfg", None)
    size = size.get("input_size") if isinstance(size, dict) else None
    if size:
        spec = Spec(tuple(size), _floating(module))
        return Sample((spec,), guessed="from its timm configuration")
    if type(module).__module__.startswith("torchvision.models."):
        side = 299 if type(module).__name__ == "Inception3" else 224
        family = type(module).__module__.split(".")[2]
        shape = (3, 16, 112, 112) if family == "video" else (3, side, side)
        if family not in ("detection", "optical_flow"):
            return Sample((Spec(shape, _floating(module)),), guessed="what torchvision trains it on")
    return None


def _hugging_face(module: Any, config: Any) -> Sample | None:
    """By the name of its main input; an encoder and decoder take tokens for the second too."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    longest = getattr(text, "max_position_embeddings", None) or LENGTH
    tokens = Spec((min(LENGTH, longest),), torch.long)
    main = str(module.main_input_name)
    reason = f"it takes {main}"
    if main == "input_ids":
        first = tokens
        reason += f", here of length {tokens.shape[0]}"
    elif main == "pixel_values":
        vision = getattr(config, "vision_config", config)
        side = getattr(vision, "image_size", 224)
        sides = tuple(side) if isinstance(side, list | tuple) else (side, side)
        first = Spec((getattr(vision, "num_channels", 3), *sides), _floating(module))
    elif main == "input_features":
        width = getattr(config, "num_mel_bins", 80)
        first = Spec((width, 2 * getattr(config, "max_source_positions", 1500)), _floating(module))
    elif main == "input_values":
        first = Spec((16000,), _floating(module))
    else:
        return None
    named = {"decoder_input_ids": tokens} if getattr(config, "is_encoder_decoder", False) else {}
    return Sample((first,), named, reason)


def _from_layers(module: nn.Module) -> Iterator[Sample]:
    """Guesses from the first three layers that have an input of their own, in the order in which they were made."""
    kind = _floating(module)
    seen = 0
    for name, layer in module.named_modules():
        title = f"{name or 'it'} ({type(layer).__name__})" if name else f"a {type(layer).__name__}"
        found: list[Sample] = []
        if isinstance(layer, nn.Linear):
            why = f"{title} takes {layer.in_features} features"
            found = [Sample((Spec((layer.in_features,), kind),), guessed=why)]
        elif isinstance(layer, nn.Embedding | nn.EmbeddingBag):
            why = f"{title} takes integers below {layer.num_embeddings}; the length is ours"
            found = [Sample((Spec((n,), torch.long),), guessed=why) for n in (LENGTH, 32, 16, 8, 4)]
        elif isinstance(layer, _CHANNELS):
            spatial = len(layer.kernel_size)
            why = f"{title} takes {layer.in_channels} channels; the size is the first of the usual ones that runs"
            sizes = [min(size, 32) for size in _SIZES] if spatial == 3 else _SIZES
            found = [
                Sample((Spec((layer.in_channels, *(size,) * spatial), kind),), guessed=why)
                for size in dict.fromkeys(sizes)
            ]
        elif isinstance(layer, nn.RNNBase) and layer.batch_first:
            why = f"{title} takes {layer.input_size} features a step; the length is ours"
            found = [Sample((Spec((16, layer.input_size), kind),), guessed=why)]
        elif isinstance(layer, nn.MultiheadAttention) and layer.batch_first:
            why = f"{title} takes {layer.embed_dim} features a token; the length is ours"
            found = [Sample((Spec((16, layer.embed_dim), kind),), guessed=why)]
        yield from found
        seen += bool(found)
        if seen == 3:
            return
