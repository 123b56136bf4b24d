"""f_p: an architecture's forward as a function of its parameters and buffers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from modelspace.engine.allocator import keep_freed_memory
from modelspace.engine.lowerings import MEMBER_BY_MEMBER, lowered, spread, writes_into_shared
from modelspace.engine.lowerings.embedding import renormalised
from modelspace.engine.lowerings.normalisation import batched_forwards, replaced
from modelspace.engine.lowerings.recurrent import keep_weights_apart
from modelspace.engine.randomness import Draws, forward_draws
from modelspace.engine.single import Single
from modelspace.space import ModelSpace


@dataclass(frozen=True)
class Verdict:
    """Whether the engine may compute a network, by what its real modules did.

    Attributes:
        refused: Why not at all; None if it may.
        batched: Why not under ``vmap``; None if it may.
        written: The parameters that the forward writes into.
        elsewhere: The generators outside PyTorch that the forward draws from: ``random``, ``numpy.random``.
        counters: Numbers that the forward changes, and on which nothing seemed to depend.
    """

    refused: str | None = None
    batched: str | None = None
    written: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    counters: tuple[str, ...] = ()


class _WithBuffers(nn.Module):
    """The module, which also returns its buffers as the forward left them, written in place or replaced.

    Args:
        module: The module.
        own_frozen: The frozen parameters that are returned with them.
    """

    def __init__(self, module: nn.Module, own_frozen: tuple[str, ...]):
        super().__init__()
        self.module = module
        self.own_frozen = own_frozen

    def forward(self, inputs: Tensor) -> tuple[Any, dict[str, Any]]:
        outputs = self.module(inputs)
        after = {name: value for name, value in self.module.named_buffers() if value.layout is torch.strided}
        frozen = {name: reduce(getattr, name.split("."), self.module) for name in self.own_frozen}
        return outputs, {**after, **frozen}


class Function:
    """The function f of a space: (parameters, buffers, inputs) ↦ (outputs, buffers after).

    Args:
        space: The space.
        device: Where it computes.
        products: The type of matrix products, where it is not the coordinates' own (mixed precision).

    Attributes:
        module: What computes, with every member's numbers in turn.
        operations: How operations were carried out, by name: those without a batched form, or all if ``watched``.
        watched: Whether every operation is to be recorded.
        draws_elsewhere: Whether the forward draws from Python's or NumPy's generator.
        written: The parameters that the forward writes into: embeddings with ``max_norm``, and what was seen to be.
    """

    def __init__(
        self,
        space: ModelSpace,
        device: torch.device | str = "cpu",
        products: torch.dtype | None = None,
    ):
        keep_freed_memory()
        self.space = space
        self.device = torch.device(device)
        self.products = products
        self.module = space.working_copy().to(device)
        self._module = _WithBuffers(self.module, space.own_frozen)
        keep_weights_apart(self._module)
        self.frozen = {n: p.to(device) for n, p in space.shared.items()}
        self.written = renormalised(space.template)
        self._forwards = batched_forwards(self._module)
        self.draws_elsewhere = False
        self.operations: dict[str, str] = {}
        self.watched = False
        self._spread = False
        self._tried: set[bool] = set()

    def __call__(
        self,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        inputs: Tensor,
        *,
        training: bool,
        seed: Int[Tensor, ""] | None = None,
        step: Int[Tensor, ""] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One member's outputs and buffers after the forward, its tensors seen through ``vmap``.

        Args:
            parameters: By name; a tied parameter under its first name.
            buffers: By name.
            inputs: ``[batch, *sample]``.
            training: The module's mode.
            seed: The member's seed; in training its random operations are a function of it and ``step``. In
                evaluation they draw the same numbers for every member and at every time.
            step: The optimizer step, 0 at the first.
        """
        self._module.train(training)
        inputs = inputs.clone()  # a network may write into its input, which belongs to the data
        tensors = {**self.frozen, **parameters, **buffers}
        for name in self.written:
            # In evaluation, and where members share it, what the forward makes of it is not kept.
            if name not in buffers and (not training or name in self.frozen):
                tensors[name] = tensors[name].clone()
        draws = forward_draws(training, seed, step, self.device)
        if training in self._tried:
            return self._batched(tensors, inputs, draws)
        # The first forward tells whether members write into tensors that they share; it may have to be made again.
        copies = {name: tensors[name].clone() if name in buffers else tensors[name] for name in tensors}
        before = {name: tensors[name].detach().clone() for name in self.written if name not in buffers}
        try:
            result = self._batched(copies, inputs.clone(), draws and draws.from_here())
        except RuntimeError as error:
            if self._spread or not writes_into_shared(error):
                raise
            self._spread = True
            with torch.no_grad():
                for name, value in before.items():
                    tensors[name].copy_(value)
            result = self._batched(tensors, inputs, draws)
        self._tried.add(training)
        return result

    def _batched(self, tensors: dict[str, Tensor], inputs: Tensor, draws: Draws | None) -> Any:
        anchor = None
        if self._spread:
            anchor = next(tensors[name] for name in tensors if name not in self.frozen)
            inputs = spread(anchor, inputs)
        lowering = lowered(draws, batched=True, anchor=anchor, products=self.products, said=self._said)
        with replaced(self._forwards), lowering:
            return self._forward(tensors, inputs)

    def _forward(self, tensors: dict[str, Tensor], inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        named = {f"module.{name}": value for name, value in tensors.items()}
        return functional_call(self._module, named, (inputs,))

    def score(
        self, loss: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, labels: Tensor
    ) -> Float[Tensor, ""]:
        """One member's loss, or another score, its tensors seen through ``vmap``; its operations are lowered too."""
        with lowered(None, batched=True, said=self._said):
            return loss(outputs, labels)

    def _said(self, operation: str, how: str) -> None:
        if self.watched or how == MEMBER_BY_MEMBER:
            self.operations[operation] = how

    @cached_property
    def single(self) -> Single:
        """The same architecture for one member at a time, as in the plain loop."""
        single = Single(self.space, self.device, self.products)
        single.draws_elsewhere = self.draws_elsewhere
        return single

    def trust(self, verdict: Verdict) -> None:
        """Compute from here on as the real modules were seen to."""
        self.written = tuple(dict.fromkeys([*self.written, *verdict.written]))
        self.draws_elsewhere = bool(verdict.elsewhere)
        self.single.draws_elsewhere = self.draws_elsewhere

    @property
    def one_by_one(self) -> tuple[str, ...]:
        """The operations without a batched form that the forwards so far have met."""
        return tuple(name for name, how in self.operations.items() if how == MEMBER_BY_MEMBER)
