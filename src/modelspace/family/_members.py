"""Single members of a family: their spaces, and what they cost, each traced once and remembered."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from modelspace.errors import ModelspaceError
from modelspace.family._axes import said
from modelspace.space import ModelSpace

QUANTITIES = ("n", "forward_flops", "backward_flops", "peak_bytes")
_Found = TypeVar("_Found")
Shape = Iterable[int] | Callable[..., Iterable[int]] | None


@dataclass(frozen=True)
class Member:
    """One space of a family, and what it costs.

    Attributes:
        hyperparameters: What makes it this member.
        n: Coordinates.
        forward_flops: FLOP of the batch's forward; None where the family has no input shape.
        backward_flops: FLOP of its backward.
        peak_bytes: Most bytes alive in forward and backward; None too where memory was left out.
        by_law: The quantities that a law gave; the others were traced.
    """

    hyperparameters: dict[str, Any]
    n: int
    forward_flops: int | None = None
    backward_flops: int | None = None
    peak_bytes: int | None = None
    by_law: tuple[str, ...] = ()


class Members:
    """Builds and traces members on the meta device, each at most once.

    Args:
        architecture: A class or factory.
        fixed: Arguments that all members share.
        input_shape: One sample's shape, or a function of the hyper-parameters (by keyword) that gives it.
        dtype: The coordinates' type; as built where None.
        input_dtype: The samples' type.
        batch: Samples; where None, the smallest batch with which the first member traced can be trained, for all.
    """

    def __init__(
        self,
        architecture: Callable[..., nn.Module],
        fixed: Mapping[str, Any],
        input_shape: Shape,
        dtype: torch.dtype | None,
        input_dtype: torch.dtype,
        batch: int | None,
    ):
        self._architecture = architecture
        self._fixed = dict(fixed)
        self._shape = input_shape if input_shape is None or callable(input_shape) else tuple(input_shape)
        self._dtype, self._input_dtype = dtype, input_dtype
        self.batch = batch
        self._dimensions: dict[str, int | ModelspaceError] = {}
        self._traces: dict[str, Member | ModelspaceError] = {}

    @property
    def has_shape(self) -> bool:
        """Whether the cost can be known, for which a sample's shape is needed."""
        return self._shape is not None

    @property
    def traced(self) -> int:
        """How many members have been traced."""
        return len(self._traces)

    def space(self, member: Mapping[str, Any]) -> ModelSpace:
        """The space of one member.

        Raises:
            ModelspaceError: it can't be built; the message says which and why.
        """
        arguments = {**self._fixed, **member}
        try:
            shape = self._shape(**arguments) if callable(self._shape) else self._shape
        except Exception as error:
            raise ModelspaceError(
                f"input_shape({said(arguments)}) failed: {type(error).__name__}: {error}"
            ) from error
        return ModelSpace(
            self._architecture,
            input_shape=shape,
            dtype=self._dtype,
            input_dtype=self._input_dtype,
            **arguments,
        )

    def dimension(self, member: Mapping[str, Any]) -> int:
        """N of one member, which is built for it and not run.

        Raises:
            ModelspaceError: it can't be built.
        """
        return _remembered(self._dimensions, member, lambda: self.space(member).dimension)

    def trace(self, member: Mapping[str, Any]) -> Member:
        """Everything about one member, by a real trace.

        Raises:
            ModelspaceError: it can't be built, or doesn't run on the samples.
        """
        return _remembered(self._traces, member, lambda: self._trace(member))

    def measured(self, quantity: str, member: Mapping[str, Any]) -> int:
        """One quantity of one member.

        Raises:
            ModelspaceError: it can't be built, or doesn't run on the samples.
        """
        if quantity == "n":
            return self.dimension(member)
        return getattr(self.trace(member), quantity)

    def _trace(self, member: Mapping[str, Any]) -> Member:
        space = self.space(member)
        if not self.has_shape:
            return Member(dict(member), space.dimension)
        try:
            cost = space.anatomy(self.batch)
        except ModelspaceError as error:
            raise ModelspaceError(f"{space.title} can't be traced: {error}") from error
        # One batch for all: a member that needs a larger one must say so, not be compared at another size.
        self.batch = cost.batch
        return Member(dict(member), space.dimension, cost.forward_flops, cost.backward_flops, cost.peak_bytes)


def _remembered(
    known: dict[str, _Found | ModelspaceError], member: Mapping[str, Any], make: Callable[[], _Found]
) -> _Found:
    key = said(member)
    if key not in known:
        try:
            with warnings.catch_warnings():
                # Most members are built to find a law, and nobody asked for them.
                warnings.simplefilter("ignore")
                known[key] = make()
        except ModelspaceError as error:
            known[key] = error
    found = known[key]
    if isinstance(found, ModelspaceError):
        raise found
    return found
