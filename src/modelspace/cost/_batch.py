"""One sample's shapes and types, from which a batch of any size is made."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from modelspace.show import shape_text
from modelspace.trace import Spec


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


def floating(module: torch.nn.Module) -> torch.dtype:
    """The type of a module's inputs that are no integers: that of its first real parameter, or else complex one."""
    kinds = [p.dtype for p in module.parameters() if p.is_floating_point() or p.is_complex()]
    return next((kind for kind in kinds if kind.is_floating_point), (kinds or [torch.float32])[0])
