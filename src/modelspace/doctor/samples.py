"""Inputs and labels that are made up: enough to run a model and a loss."""

import math

import torch
from torch import Tensor, nn

# A token that every embedding of a model knows; where there is no embedding, any small number does.
_FEW_TOKENS = 2


def made_inputs(
    count: int, shape: tuple[int, ...], dtype: torch.dtype, tokens: int, *, seed: int, device: str = "cpu"
) -> Tensor:
    """Standard normal numbers, or integers below ``tokens``.

    Args:
        count: Samples.
        shape: One sample's shape.
        dtype: Of the samples; integers are tokens.
        tokens: What integer samples are below.
        seed: Of the numbers.
        device: ``"meta"`` for shapes alone.
    """
    if device == "meta":
        return torch.empty(count, *shape, dtype=dtype, device="meta")
    generator = torch.Generator().manual_seed(seed)
    if dtype.is_floating_point:
        return torch.randn(count, *shape, generator=generator, dtype=torch.float64).to(dtype)
    if dtype == torch.bool:
        return torch.randint(2, (count, *shape), generator=generator).bool()
    return torch.randint(tokens, (count, *shape), generator=generator, dtype=dtype)


def known_tokens(module: nn.Module) -> int:
    """How many tokens all embeddings of a module know."""
    sizes = [
        layer.num_embeddings
        for layer in module.modules()
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag)
    ]
    return min(sizes, default=_FEW_TOKENS)


def made_labels(
    outputs: Tensor, kind: str | None, *, seed: int, shape: tuple[int, ...] | None = None
) -> Tensor | None:
    """Labels that outputs can be held against; None where the label set is not known.

    Classes and ranks go round, so that no constant output fits them.

    Args:
        outputs: The model's, ``[N, …]``, or ``[N, C, …]`` for classes.
        kind: The loss's label set.
        seed: Of what is random.
        shape: The labels'; the outputs' own, without the classes, where None.
    """
    generator = torch.Generator().manual_seed(seed)
    if kind in ("class", "rank"):
        if outputs.ndim < 2 or outputs.shape[1] < 1:
            return None
        shape = shape or (outputs.shape[0], *outputs.shape[2:])
        several = outputs.shape[1] + (kind == "rank")
        return (torch.arange(math.prod(shape)) % several).reshape(shape)
    numbers = torch.rand(shape or outputs.shape, generator=generator, dtype=torch.float64)
    made = {
        "real": lambda: _normal(numbers),
        "sign": lambda: (numbers < 0.5).double() * 2 - 1,
        "unit": lambda: (numbers < 0.5).double(),
        "multi-hot": lambda: (numbers < 0.5).double(),
        "count": lambda: (numbers * 5).floor(),
        "positive": lambda: numbers + 0.5,
        "distribution": lambda: numbers / numbers.sum(1, keepdim=True) if numbers.ndim > 1 else numbers,
    }
    return made[kind]().to(outputs.dtype) if kind in made else None


def _normal(uniform: Tensor) -> Tensor:
    return torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6))
