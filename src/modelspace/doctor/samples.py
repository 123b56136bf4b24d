"""Random numbers of our own: seeds that nobody outside sees, and inputs and labels to run a model and a loss."""

import math
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modelspace.construction import seed_torch, seeded, seeded_elsewhere

# A token that every embedding of a model knows; where there is no embedding, any small number does.
_FEW_TOKENS = 2
_NUMPYS, _PYTHONS = "NumPy's global generator", "Python's random"


@contextmanager
def private_randomness(seed: int) -> Iterator[None]:
    """Seed PyTorch's, NumPy's and Python's global generators for the block, and leave them as they were.

    A model under examination may warn of anything, which is the model's affair: its warnings are not shown.
    """
    with seeded(seed), seeded_elsewhere(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def seed_all(seed: int) -> None:
    """Seed every global generator that a forward may draw from."""
    seed_torch(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002


def drawn_since(seed: int) -> bool:
    """Tell whether random numbers have been drawn since ``seed_all(seed)``, from any of the global generators."""
    numpys, pythons = np.random.RandomState(seed % 2**32).get_state(), random.Random(seed).getstate()
    same = torch.equal(torch.get_rng_state(), torch.Generator().manual_seed(seed).get_state())
    return not same or other_generators() != {_NUMPYS: _comparable(numpys), _PYTHONS: pythons}


def other_generators() -> dict[str, Any]:
    """Return where the global generators are that ``torch.manual_seed`` does not reach, by their names."""
    return {_NUMPYS: _comparable(np.random.get_state()), _PYTHONS: random.getstate()}  # noqa: NPY002


def _comparable(state: Any) -> tuple:
    kind, key, *rest = state
    return kind, key.tobytes(), *rest


def made_inputs(
    count: int, shape: tuple[int, ...], dtype: torch.dtype, tokens: int, *, seed: int, device: str = "cpu"
) -> Tensor:
    """Make up samples: standard normal numbers, or integers below ``tokens``; on ``"meta"`` shapes alone."""
    if device == "meta":
        return torch.empty(count, *shape, dtype=dtype, device="meta")
    generator = torch.Generator().manual_seed(seed)
    if dtype.is_floating_point:
        return torch.randn(count, *shape, generator=generator, dtype=torch.float64).to(dtype)
    if dtype == torch.bool:
        return torch.randint(2, (count, *shape), generator=generator).bool()
    return torch.randint(tokens, (count, *shape), generator=generator, dtype=dtype)


def known_tokens(module: nn.Module) -> int:
    """Count the tokens that all embeddings of a module know."""
    embeddings = [x for x in module.modules() if isinstance(x, nn.Embedding | nn.EmbeddingBag)]
    return min((x.num_embeddings for x in embeddings), default=_FEW_TOKENS)


def made_labels(
    outputs: Tensor, kind: str | None, *, seed: int, shape: tuple[int, ...] | None = None
) -> Tensor | None:
    """Make up labels that outputs can be compared with; None where the label set is not known.

    Outputs are ``[N, …]``, or ``[N, C, …]`` for classes, and the labels' shape is theirs, without the classes, where
    it is not given. Classes and ranks go round, so that no constant output fits them.
    """
    if kind in ("class", "rank"):
        if outputs.ndim < 2 or outputs.shape[1] < 1:
            return None
        shape = shape or (outputs.shape[0], *outputs.shape[2:])
        several = outputs.shape[1] + (kind == "rank")
        return (torch.arange(math.prod(shape)) % several).reshape(shape)
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.rand(shape or outputs.shape, generator=generator, dtype=torch.float64)
    match kind:
        case "real":
            made = torch.special.ndtri(numbers.clamp(1e-6, 1 - 1e-6))
        case "sign":
            made = (numbers < 0.5).double() * 2 - 1
        case "unit" | "multi-hot":
            made = (numbers < 0.5).double()
        case "count":
            made = (numbers * 5).floor()
        case "positive":
            made = numbers + 0.5
        case "distribution":
            made = numbers / numbers.sum(1, keepdim=True) if numbers.ndim > 1 else numbers
        case _:
            return None
    return made.to(outputs.dtype)
