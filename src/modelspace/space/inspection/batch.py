"""One sample's shapes and types, from which a batch of any size is made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from modelspace.space.anatomy import Spec
from modelspace.space.card import shape_text


@dataclass(frozen=True)
class Sample:
    """What one sample is.

    Attributes:
        inputs: The positional inputs, shapes without the batch.
        named: The keyword inputs.
        guessed: Where shapes were guessed, the reason; None where they were given.
    """

    inputs: tuple[Spec, ...]
    named: Mapping[str, Spec] = field(default_factory=dict)
    guessed: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The first input's shape."""
        return next(iter([*self.inputs, *self.named.values()])).shape

    @property
    def only(self) -> Spec | None:
        """The one input, where there is no other."""
        return self.inputs[0] if len(self.inputs) == 1 and not self.named else None

    def batch(self, size: int) -> dict[str, Any]:
        """The arguments ``inputs`` and ``kwargs`` of an anatomy, for so many samples.

        Example:
            >>> Sample((Spec((3,)),)).batch(2)
            {'inputs': (Spec(shape=(2, 3), dtype=torch.float32),), 'kwargs': {}}
        """

        def of(spec: Spec) -> Spec:
            return Spec((size, *spec.shape), spec.dtype)

        return {
            "inputs": tuple(of(spec) for spec in self.inputs),
            "kwargs": {name: of(spec) for name, spec in self.named.items()},
        }

    def __str__(self) -> str:
        """``3×224×224``, or ``128 integers``; several with commas."""
        parts = [_text(spec) for spec in self.inputs]
        return ", ".join([*parts, *(f"{name}: {_text(spec)}" for name, spec in self.named.items())])


def _text(spec: Spec) -> str:
    return shape_text(spec.shape) + ("" if spec.dtype.is_floating_point else " integers")


def floating(module: torch.nn.Module) -> torch.dtype:
    """The type of a module's floating-point inputs: that of its first floating-point parameter."""
    found = (p.dtype for p in module.parameters() if p.is_floating_point())
    return next(found, torch.float32)
