"""f_p: an architecture's forward as a function of its parameters and buffers, of members at once or of one.

``Function`` is called with one member's tensors, seen through ``vmap``; ``Function.single`` computes one member at a
time, in a plain module into which the member's values are put: what the plain loop has, without making it anew for
each member.
"""

import ctypes
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, cached_property, partial, reduce
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from modelspace.construction import seeded_elsewhere
from modelspace.engine.lowerings import (
    MEMBER_BY_MEMBER,
    lowered,
    spread,
    without_fast_paths,
    writes_into_shared,
)
from modelspace.engine.lowerings.embedding import renormalised
from modelspace.engine.lowerings.recurrent import keep_weights_apart
from modelspace.engine.lowerings.surroundings import averaging, cumulative_norms
from modelspace.engine.randomness import Draws, forward_draws, stream_seed
from modelspace.nest import Nest, axes, called, mapped, only_tensors, stacked, take
from modelspace.space import ModelSpace

Named = dict[str, Tensor]
Work = Callable[[Any, Nest], Any]  # of a module and its inputs


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


class Function:
    """The function f of a space: (parameters, buffers, inputs) ↦ (outputs, buffers after).

    Args:
        space: The space.
        device: Where it computes.
        products: The type of matrix products, where it is not the coordinates' own (mixed precision).
        twice: Whether it is to be differentiated twice: operations are then carried out in forms that can be.

    Attributes:
        module: What computes, with every member's numbers in turn.
        operations: How each operation that the forwards so far have met was carried out, by name.
        written: The parameters that the forward writes into: embeddings with ``max_norm``, and what was seen to be.
    """

    def __init__(
        self,
        space: ModelSpace,
        device: torch.device | str = "cpu",
        products: torch.dtype | None = None,
        *,
        twice: bool = False,
    ):
        keep_freed_memory()
        self.space = space
        self.device = torch.device(device)
        self.products = products
        self._twice = twice
        self.module = space.working_copy().to(device)
        self._module = _WithBuffers(self.module, space.own_frozen)
        keep_weights_apart(self._module)
        self.frozen = {n: p.to(device) for n, p in space.shared.items()}
        self.written = renormalised(space.template)
        self._norms = cumulative_norms(self._module)
        self.operations: dict[str, str] = {}
        self._spread = False
        self._tried: set[bool] = set()

    def __call__(
        self,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        inputs: Nest,
        *,
        training: bool,
        seed: Int[Tensor, ""] | None = None,
        step: Int[Tensor, ""] | None = None,
        work: Work = called,
    ) -> tuple[Any, Named]:
        """Return one member's outputs and its buffers after the forward, its tensors seen through ``vmap``.

        Args:
            parameters: By name; a tied parameter under its first name.
            buffers: By name.
            inputs: ``[batch, *sample]`` each.
            training: The module's mode.
            seed: The member's seed; in training its random operations are a function of it and ``step``. In
                evaluation they draw the same numbers for every member and at every time.
            step: The optimizer step, 0 at the first.
            work: What is computed with the module and the inputs; its forward where nothing else is.
        """
        self._module.train(training)
        # A network may write into its input, which belongs to the data.
        inputs = mapped(Tensor.clone, inputs)
        tensors = {**self.frozen, **parameters, **buffers}
        for name in self.written:
            # In evaluation, and where members share it, what the forward makes of it is not kept.
            if name not in buffers and (not training or name in self.frozen):
                tensors[name] = tensors[name].clone()
        draws = forward_draws(training, seed, step, self.device)
        if training in self._tried:
            return self._forward(tensors, inputs, draws, work)
        # The first forward tells whether members write into tensors that they share; it may have to be made again.
        copies = {name: tensors[name].clone() if name in buffers else tensors[name] for name in tensors}
        before = {name: tensors[name].detach().clone() for name in self.written if name not in buffers}
        try:
            result = self._forward(copies, mapped(Tensor.clone, inputs), draws and draws.from_here(), work)
        except RuntimeError as error:
            if self._spread or not writes_into_shared(error):
                raise
            self._spread = True
            with torch.no_grad():
                for name, value in before.items():
                    tensors[name].copy_(value)
            result = self._forward(tensors, inputs, draws, work)
        self._tried.add(training)
        return result

    def _forward(self, tensors: Named, inputs: Nest, draws: Draws | None, work: Work) -> Any:
        anchor = None
        if self._spread:
            anchor = next(tensors[name] for name in tensors if name not in self.frozen)
            inputs = mapped(partial(spread, anchor), inputs)
        named = {f"module.{name}": value for name, value in tensors.items()}
        settings = {"anchor": anchor, "products": self.products, "operations": self.operations}
        settings["twice"] = self._twice
        with averaging(self._norms), lowered(draws, batched=True, **settings):
            return functional_call(self._module, named, (work, inputs))

    def score(self, loss: Callable[[Any, Any], Tensor], outputs: Any, labels: Any) -> Float[Tensor, ""]:
        """Return one member's loss, or another score, seen through ``vmap``; its operations are lowered too."""
        with lowered(None, batched=True, operations=self.operations):
            return loss(outputs, labels)

    @cached_property
    def single(self) -> "Single":
        """The same architecture for one member at a time, as in the plain loop."""
        return Single(self.space, self.device, self.products)

    def trust(self, verdict: Verdict) -> None:
        """Compute from here on as the real modules were seen to."""
        self.written = tuple(dict.fromkeys([*self.written, *verdict.written]))
        self.single.draws_elsewhere = bool(verdict.elsewhere)

    @property
    def one_by_one(self) -> tuple[str, ...]:
        """The operations without a batched form that the forwards so far have met."""
        return tuple(name for name, how in self.operations.items() if how == MEMBER_BY_MEMBER)


def stacked_outputs(
    function: Function,
    points: Tensor,
    buffers: Mapping[str, Tensor],
    inputs: Nest,
    *,
    batched: bool,
    own: bool = False,
) -> Any:
    """Compute f_p(x) in evaluation mode for c members at once, ``[c, batch, …]``; of a nest, its tensors.

    With ``own``, each member has inputs of its own, ``[c, batch, …]``.
    """

    def outputs_of(compute: Callable[..., Any], p: Any, b: Any, x: Nest) -> Any:
        outputs, _ = compute(p, b, x, training=False)
        return only_tensors(outputs)

    with torch.no_grad():
        if batched:
            views = function.space.layout.views(points)
            copies = {name: value.clone() for name, value in buffers.items()}
            x = axes(inputs, 0 if own else None)
            return torch.vmap(partial(outputs_of, function), in_dims=(0, 0, x))(views, copies, inputs)
        rows = ({name: value[k] for name, value in buffers.items()} for k in range(len(points)))
        single = partial(outputs_of, function.single)
        given = [take(inputs, k) if own else inputs for k in range(len(points))]
        outputs = [mapped(Tensor.clone, single(*each)) for each in zip(points, rows, given, strict=True)]
        return stacked(outputs)


class _WithBuffers(nn.Module):
    """The module, which also returns its buffers and some frozen parameters as the forward left them."""

    def __init__(self, module: nn.Module, own_frozen: tuple[str, ...]):
        super().__init__()
        self.module = module
        self.own_frozen = own_frozen

    def forward(self, work: Work, inputs: Nest) -> tuple[Any, dict[str, Any]]:
        outputs = work(self.module, inputs)
        after = {name: value for name, value in self.module.named_buffers() if value.layout is torch.strided}
        frozen = {name: reduce(getattr, name.split("."), self.module) for name in self.own_frozen}
        return outputs, {**after, **frozen}


class Single:
    """A module of the space, for one member at a time.

    Its parameters and buffers stay the same objects, whatever values they have: closures and hooks find them.

    Args:
        space: The space.
        device: Where it computes.
        products: The type of matrix products, where it is not the coordinates' own.

    Attributes:
        module: It.
        leaves: The module's trainable parameters, by name: what a gradient is taken with respect to.
        draws_elsewhere: Whether its forward draws from Python's or NumPy's generator, which is then seeded from the
            member's seed and the step.
    """

    def __init__(self, space: ModelSpace, device: torch.device, products: torch.dtype | None):
        self.module = space.working_copy().to(device)
        self.draws_elsewhere = False
        self._space = space
        self._device = device
        self._products = products
        parameters = dict(self.module.named_parameters())
        self.leaves = {name: p for name, p in parameters.items() if p.requires_grad}
        # The memory of their values, each at an aligned address, as a module's own parameter has it: from another one
        # a matrix product may add up its terms in another order, and the loop promises every bit.
        self._values = [
            leaf.data.clone(memory_format=torch.contiguous_format) for leaf in self.leaves.values()
        ]
        self._flat = [value.view(-1) for value in self._values]
        self._sizes = [value.numel() for value in self._values]
        self._frozen = {name: parameters[name] for name in space.own_frozen}
        names = {id(buffer): name for name, buffer in self.module.named_buffers()}
        self._buffers = [
            (layer._buffers, key, names[id(buffer)], buffer)
            for layer in self.module.modules()
            for key, buffer in layer._buffers.items()
            if buffer is not None and names[id(buffer)] in space.buffer_shapes
        ]
        # What a forward makes of a table that all members share is not kept.
        self._shared = {n: parameters[n] for n in renormalised(self.module) if n in space.shared}
        # Recurrent layers on a GPU warn at every call that their weights, which are a member's, are not in one piece.
        self._surrounded = products is not None or device.type == "cuda"
        self._mode: bool | None = None
        self._draws: set[bool] = set()  # the modes in which it was seen to draw

    def __call__(
        self,
        point: Float[Tensor, "parameter"],
        buffers: Mapping[str, Tensor],
        inputs: Nest,
        *,
        training: bool,
        seed: Int[Tensor, ""] | None = None,
        step: Int[Tensor, ""] | None = None,
        work: Work = called,
    ) -> tuple[Any, Named]:
        """Return the outputs, and copies of the buffers as the forward left them; the arguments are a ``Function``'s.

        Point and buffers stay as they are: ``write_back`` puts there what was written.
        """
        if training is not self._mode:
            self.module.train(training)
            self._mode = training
        draws = forward_draws(training, seed, step, self._device)
        outputs = self._forward(point, buffers, inputs, training, draws, work)
        after = {name: held[key] for held, key, name, _ in self._buffers if held[key] is not None}
        # The alias of a buffer that was written in place: the next member's values get memory of their own.
        return outputs, {name: value.data for name, value in {**after, **self._frozen}.items()}

    def write_back(self, point: Float[Tensor, "parameter"]) -> None:
        """Put into the row of the last call what its forward and backward made of the parameters."""
        leaves = self.leaves.values()
        # A network may have given a parameter other memory, or looks at its own in another order.
        own = all(
            leaf.data_ptr() == value.data_ptr() and leaf.stride() == value.stride()
            for leaf, value in zip(leaves, self._values, strict=True)
        )
        torch.cat(self._flat if own else [leaf.data.reshape(-1) for leaf in leaves], out=point)

    def _forward(
        self,
        point: Tensor,
        buffers: Mapping[str, Tensor],
        inputs: Nest,
        training: bool,
        draws: Any,
        work: Work,
    ) -> Any:
        # A network that draws nothing needs nobody to look at its operations: that is a fifth of a small one's time.
        # Whether it draws is seen by PyTorch's generator.
        if training not in self._draws and self._device.type == "cpu":
            before = torch.get_rng_state()
            with without_fast_paths():
                outputs = self._called(point, buffers, inputs, draws, work)
            # As bytes: comparing the tensors takes as long as a small layer.
            if before.numpy().tobytes() == torch.get_rng_state().numpy().tobytes():
                return outputs
            torch.set_rng_state(before)
            self._draws.add(training)
        with lowered(draws, batched=False):
            return self._called(point, buffers, inputs, draws, work)

    def _called(
        self,
        point: Tensor,
        buffers: Mapping[str, Tensor],
        inputs: Nest,
        draws: Draws | None,
        work: Work,
    ) -> Any:
        self._put(point, buffers)
        if not self._surrounded and not self.draws_elsewhere:
            return work(self.module, mapped(Tensor.clone, inputs))  # a copy, as below
        with ExitStack() as stack:
            if self._products is not None:
                stack.enter_context(torch.autocast(self._device.type, self._products))
            if self._device.type == "cuda":
                stack.enter_context(warnings.catch_warnings())
                apart = "RNN module weights are not part of single contiguous chunk"
                warnings.filterwarnings("ignore", message=apart)
            if self.draws_elsewhere and draws is not None:
                seed = stream_seed(int(draws.seed), int(draws.step), 0)
                stack.enter_context(seeded_elsewhere(seed))
            # A copy: a network may write into its input, which belongs to the data.
            return work(self.module, mapped(Tensor.clone, inputs))

    def _put(self, point: Tensor, buffers: Mapping[str, Tensor]) -> None:
        torch._foreach_copy_(self._flat, torch.split_with_sizes(point, self._sizes))
        for leaf, value in zip(self.leaves.values(), self._values, strict=True):
            leaf.data = value
        for name, parameter in self._frozen.items():
            parameter.data = buffers[name].clone()
        for name, table in self._shared.items():
            table.data = self._space.shared[name].to(self._device, copy=True)
        for held, key, name, buffer in self._buffers:
            buffer.data = buffers[name].clone()
            held[key] = buffer


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_TRIM_BYTES, _MMAP_BYTES = 2**29, 2**25  # the second is the largest that glibc takes


@cache
def keep_freed_memory() -> bool:
    """Keep freed memory in the process between steps, by the allocator's thresholds; tell whether it has them.

    glibc gives freed memory back to the system as soon as a few hundred kilobytes lie at the end of the heap. A
    training step frees and asks again for some megabytes, so that, depending on how the heap happens to lie, every
    step pays for a thousand page faults: an MLP's step took 0.038 or 0.12 ms a member from one process to the next,
    and always 0.038 with the thresholds raised.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)) and bool(mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES))
