"""Any function of a member, f(model) ↦ tensors, computed of c members at once or of one after the other."""

from collections.abc import Callable, Mapping
from functools import partial
from math import ceil
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from modelspace.construction import seeded, seeded_elsewhere
from modelspace.engine.function import Function
from modelspace.engine.witness import first_and_last, unbatched
from modelspace.errors import ModelspaceError, told
from modelspace.nest import mapped, named_leaves, spoken, stacked
from modelspace.population import Population
from modelspace.progress import notice
from modelspace.trace import PeakMemory

_AT_ONCE = 2**26  # bytes that members computed at once hold; one member's at least


class MemberValues:
    """A function of a member, in evaluation mode: ``model`` is a module of the user's class with its numbers.

    It is held against real modules first, as an architecture is: where ``vmap`` gives other values or none, members
    are computed one after the other, which is said.

    Args:
        function: f, of a module to a tensor or a nest of tensors.
        what: What messages call it.
        population: Members of whom it will be computed.

    Attributes:
        kinds: Of what it gives, by name, one member's shape and type; the name of a single tensor is empty.

    Raises:
        ModelspaceError: it fails, gives no tensor, or depends on more than the module's parameters and buffers.
    """

    def __init__(self, function: Callable[[Any], Any], what: str, population: Population):
        self._of, self._what = function, what
        self._function = Function(population.space, population.device)
        self._nothing = torch.zeros(1, device=population.device)  # in the place of a batch
        members = first_and_last(population)
        made, self._peak = self._tried(members)
        self.kinds = {name: (tuple(value.shape), value.dtype) for name, value in made.items()}
        works = [self._work] * len(members)
        compute = partial(self._compute, members.points, members.buffers)
        why = unbatched(self._function, members, self._nothing, works, compute, what)
        self._batched = why is None
        if why is not None:
            notice(f"{what}: {why}; it is computed of one member after the other")

    @property
    def most_bytes(self) -> int:
        """What members computed at once hold, at most."""
        return max(self._peak, _AT_ONCE) if self._batched else self._peak

    def __call__(
        self, points: Float[Tensor, "member parameter"], buffers: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Compute it of c members, ``[c, …]`` each."""
        if not self._batched:
            return self._compute(points, buffers, batched=False)
        size = ceil(len(points) / ceil(len(points) * self._peak / _AT_ONCE)) if self._peak else len(points)
        pieces = [slice(start, start + size) for start in range(0, len(points), size)]
        parts = [
            self._compute(points[rows], {n: b[rows] for n, b in buffers.items()}, batched=True)
            for rows in pieces
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in self.kinds}

    def _compute(self, points: Tensor, buffers: Mapping[str, Tensor], *, batched: bool) -> dict[str, Tensor]:
        def one(compute: Callable[..., Any], p: Any, b: Any) -> Any:
            return compute(p, b, self._nothing, training=False, work=self._work)[0]

        with torch.enable_grad():  # it may differentiate
            if batched:
                views = self._function.space.layout.views(points.detach())
                copies = {name: value.clone() for name, value in buffers.items()}
                values = torch.vmap(partial(one, self._function), in_dims=(0, 0))(views, copies)
            else:
                rows = ({name: value[k] for name, value in buffers.items()} for k in range(len(points)))
                single = partial(one, self._function.single)
                members = zip(points, rows, strict=True)
                values = stacked([mapped(lambda x: x.detach().clone(), single(*each)) for each in members])
        return mapped(Tensor.detach, values)

    def _work(self, module: Any, _: Tensor) -> dict[str, Tensor]:
        """The tensors of what f gives, by their paths in it."""
        result = self._of(module)
        found = {}
        for path, value in named_leaves(result):
            if isinstance(value, bool | int | float):
                value = torch.as_tensor(value, device=self._nothing.device)
            if not isinstance(value, Tensor):
                raise ModelspaceError(
                    f"{self._what} returned a {type(value).__name__}: it must return a tensor, or a dict of tensors"
                )
            found[spoken(path)] = value
        if not found:
            raise ModelspaceError(
                f"{self._what} returned nothing: it must return a tensor, or a dict of tensors"
            )
        return found

    def _tried(self, members: Population) -> tuple[dict[str, Tensor], int]:
        """What a plain module gives, and the bytes that computing it holds."""
        module = members.module(0).eval()
        held = [*module.parameters(), *module.buffers()]
        try:
            with torch.enable_grad(), seeded(0), seeded_elsewhere(0), PeakMemory(held) as memory:
                made = self._work(module, self._nothing)
        except ModelspaceError:
            raise
        except Exception as error:
            raise ModelspaceError(f"{self._what} failed: {told(error)}") from error
        return made, memory.peak - sum(tensor.nbytes for tensor in held)
