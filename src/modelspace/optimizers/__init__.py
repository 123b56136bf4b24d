"""Optimizers of K members at once: one matrix of points, one column a hyper-parameter."""

from dataclasses import is_dataclass, replace

from modelspace.errors import ModelspaceError, unknown_name
from modelspace.optimizers.adam import Adam, AdamW
from modelspace.optimizers.base import RANGES, Optimizer, applied
from modelspace.optimizers.clipping import clip_by_norm, clip_by_value
from modelspace.optimizers.rmsprop import RMSprop
from modelspace.optimizers.schedules import (
    Constant,
    Cosine,
    OneCycle,
    Product,
    Schedule,
    Step,
    Warmup,
    resolve_schedule,
)
from modelspace.optimizers.sgd import SGD

__all__ = [
    "RANGES",
    "SGD",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "OneCycle",
    "Optimizer",
    "Product",
    "RMSprop",
    "Schedule",
    "Step",
    "Warmup",
    "applied",
    "clip_by_norm",
    "clip_by_value",
    "resolve",
    "resolve_schedule",
]

_BY_NAME = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop}


def resolve(optimizer: str | Optimizer) -> Optimizer:
    """Find an optimizer by its name.

    Args:
        optimizer: An optimizer; or ``"sgd"``, ``"adam"``, ``"adamw"``, ``"rmsprop"``, whatever their case.

    Returns:
        The optimizer, with torch's default hyper-parameters where it was named.

    Raises:
        ModelspaceError: No optimizer has that name, or it is neither a name nor an optimizer.

    Example:
        >>> resolve("AdamW").hyperparameters()["weight_decay"]
        0.01
    """
    if isinstance(optimizer, str):
        name = optimizer.strip().lower()
        if name not in _BY_NAME:
            raise unknown_name("optimizer", optimizer, _BY_NAME)
        return _BY_NAME[name]()
    if isinstance(optimizer, type) or not isinstance(optimizer, Optimizer):
        raise ModelspaceError(
            "an optimizer must be a name such as 'adam' or an object such as modelspace.optimizers.Adam(); "
            f"received {optimizer!r}. One of torch.optim holds the parameters of a single module"
        )
    # A pair given as a list is a pair; a key of what was compiled has to have a hash.
    lists = {n: tuple(v) for n, v in vars(optimizer).items() if isinstance(v, list)}
    return replace(optimizer, **lists) if lists and is_dataclass(optimizer) else optimizer
