"""One pass over one batch, forward and backward, with everything that it does on the books."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import get_gradient_edge

from modelspace.construction import held_tensors
from modelspace.errors import ModelspaceError, first_line
from modelspace.trace._calls import Calls, watched_calls
from modelspace.trace._forward import forward_explained
from modelspace.trace._ledger import SPARSE, Ledger, stored
from modelspace.trace._standin import (
    Spec,
    fake,
    lent,
    mapped,
    needs_values,
    quiet,
    real,
    stand_in,
    tensors_in,
)
from modelspace.trace._tracer import ComplexConvolutions, Formula, Tracer

LARGEST_REAL = 2**31
Device = Literal["fake", "cpu"]
Result = TypeVar("Result")


@dataclass
class Subject:
    """What is traced: a module's stand-in with its inputs, and the books of its pass.

    Attributes:
        module: The stand-in.
        args: Its positional inputs.
        kwargs: Its keyword inputs.
        calls: Its calls.
        ledger: Live memory.
        tracer: The account of its operations.
        device: Whether its tensors have values.
        saved: Bytes kept for the backward, by the index of the call that made them; set by `forward_backward`.
        computed: Why they have values, and which; "" where they have none.
    """

    module: nn.Module
    args: tuple
    kwargs: dict[str, Any]
    calls: Calls
    ledger: Ledger
    tracer: Tracer
    device: Device
    saved: dict[int | None, int]
    computed: str

    def forward(self) -> Any:
        """Run the module; its outputs."""
        with self.tracer.in_phase("forward"):
            return forward_explained(
                self.module, self.args, self.kwargs, self.calls, lambda: self.tracer.attempt
            )

    def forward_backward(
        self, loss: Callable[[Any], Tensor] | None = None, casting: AbstractContextManager | None = None
    ) -> Any:
        """Run a forward, and the backward of a loss of its outputs.

        Args:
            loss: Makes one number of the outputs; where None, the backward of their sum is run without the sum,
                which is not the module's own operation.
            casting: Entered around forward and loss, as autocast is.

        Returns:
            The outputs and the loss, which stay alive as long as the caller keeps them.
        """
        with casting or nullcontext():
            outputs = self.forward()
            value = None if loss is None else self._loss(loss, outputs)
        if value is not None:
            ends = [value]
        else:
            ends = [x for x in tensors_in(outputs) if x.requires_grad and not x.is_leaf]
        if not ends:
            return outputs, value
        edges = [get_gradient_edge(end) for end in ends]
        ones = [(end.shape, end.dtype, end.device) for end in ends]
        self._record_saved()
        try:
            with self.tracer.in_phase("backward"):
                seeds = [torch.ones((), dtype=t, device=d).expand(s) for s, t, d in ones]
                torch.autograd.backward(edges, seeds)  # pyright: ignore[reportArgumentType]
        except ModelspaceError:
            raise
        except Exception as error:
            raise ModelspaceError(
                f"the backward of {type(self.module).__name__} failed: {first_line(error)}"
            ) from error
        for parameter in self.module.parameters():
            block = None if parameter.grad is None else self.ledger.block_of(parameter.grad)
            if block is not None:
                block.kind = "gradients"
        return outputs, value

    def _loss(self, loss: Callable[[Any], Tensor], outputs: Any) -> Tensor:
        with self.tracer.in_phase("forward"):
            try:
                return loss(outputs)
            except Exception as error:
                raise ModelspaceError(f"the loss failed on the outputs: {first_line(error)}") from error

    def _record_saved(self) -> None:
        """What the forward made and is still alive; what died was temporary."""
        for block in self.ledger.blocks:
            if block.kind != "activations":
                continue
            if block.died is None:
                self.saved[block.owner] = self.saved.get(block.owner, 0) + block.bytes
            else:
                block.kind = "temporaries"


class _Request(NamedTuple):
    """What ``trace`` was asked for."""

    module: nn.Module
    args: tuple
    kwargs: Mapping[str, Any]
    run: Callable[[Subject], Any]
    formulas: Mapping[Any, Formula]
    dtype: torch.dtype | None
    gradients: bool

    def leaves(self) -> list[Tensor | Spec]:
        """The inputs' tensors and `Spec`s."""
        found: list[Tensor | Spec] = []
        mapped((self.args, dict(self.kwargs)), lambda leaf: found.append(leaf) or leaf)
        return found

    def tensors(self) -> list[Tensor]:
        """The inputs' and the module's."""
        return [*(leaf for leaf in self.leaves() if isinstance(leaf, Tensor)), *held_tensors(self.module)]


def trace(
    module: nn.Module,
    args: tuple,
    kwargs: Mapping[str, Any],
    run: Callable[[Subject], Result],
    *,
    formulas: Mapping[Any, Formula],
    dtype: torch.dtype | None = None,
    gradients: bool = True,
) -> Result:
    """Run a pass without values; with values where the module reads some and is small enough.

    Inputs without values are made up then: integers below what their `Spec` says, else ones, or zeros where they are
    integers and the pass fails on ones.

    Args:
        module: Any module, on any device.
        args: Positional inputs, as nests of tensors or of `Spec`.
        kwargs: Keyword inputs.
        run: The pass; it is called with the tracer entered.
        formulas: FLOP by operation.
        dtype: A floating-point type to cast module and inputs to; as they are where None.
        gradients: Whether autograd records.

    Raises:
        ModelspaceError: the pass fails, or it needs values and the module is too large for them.
        WithoutValues: the pass fails on values that the module, which has none, was given.
    """
    request = _Request(module, args, kwargs, run, formulas, dtype, gradients)
    sparse = [tensor for tensor in request.tensors() if tensor.layout in SPARSE]
    why, alone = "it holds sparse tensors", None
    if not sparse:
        try:
            return _on(request)
        except ModelspaceError as error:
            found = needs_values(error)
            if found is None:
                raise
            why, alone = found, error
    held = [part for tensor in [*module.parameters(), *module.buffers()] for part in stored(tensor)]
    size = sum(part.numel() * part.element_size() for part in held)
    if size > LARGEST_REAL:
        raise ModelspaceError(
            f"{type(module).__name__} can't be measured by shapes alone ({why}), and with {size:,} bytes of "
            f"parameters it is too large to be computed (the limit is {LARGEST_REAL:,}): measure a smaller one, or a "
            f"part of it{'' if alone is None else f'. {alone}'}"
        ) from alone
    if any(tensor.is_meta for tensor in sparse):
        raise WithoutValues(
            f"{type(module).__name__} holds sparse tensors on the meta device, and what it does depends on "
            "what they store: give it with values"
        )
    return _computed(request, why, alone)


def _computed(request: _Request, why: str, alone: ModelspaceError | None) -> Any:
    made_up = [leaf for leaf in request.leaves() if isinstance(leaf, Spec) or leaf.is_meta]
    values = ["all ones"] if made_up else [""]
    if any(isinstance(leaf, Spec) and leaf.below for leaf in made_up):
        values = ["random integers"]
    elif any(not leaf.dtype.is_floating_point for leaf in made_up):
        # A table of one row has no row 1.
        values.append("all zeros")
    errors = []
    for fill, name in zip((1, 0), values, strict=False):
        inputs = f"made-up inputs ({name})" if made_up else "the inputs given"
        try:
            return _on(request, f"{why}: counted on {inputs}", fill)
        except ModelspaceError as error:
            errors.append(error)
    first = errors[0]
    if made_up and str(first) != str(alone):
        first = ModelspaceError(
            f"{first}; {why}, and the inputs were made up ({', then '.join(values)}): give samples in place "
            "of their shape, or Spec(shape, torch.long, below=N), integers below N"
        )
    if any(tensor.is_meta for tensor in request.tensors()):
        raise WithoutValues(str(first)) from errors[0]
    raise first from errors[0].__cause__


class WithoutValues(ModelspaceError):
    """A pass needs values that a module on the meta device hasn't."""


def _on(request: _Request, computed: str = "", fill: int = 0) -> Any:
    once = partial(_once, request, computed, fill)
    found, tracer = once()
    if tracer.reached_original:
        found, tracer = once(lends=True)
    if tracer.missed_complex:
        # Under a mode of functions fused kernels step aside, so it is entered only where it may be needed.
        found, tracer = once(lends=True, functions=True)
    assert found is not None
    return found


def _once(
    request: _Request, computed: str, fill: int, *, lends: bool = False, functions: bool = False
) -> tuple[Any, Tracer]:
    """One run, and its tracer; no result where the copy used the module that it is a copy of."""
    device: Device = "cpu" if computed else "fake"
    mode = None if computed else FakeTensorMode(allow_non_fake_inputs=True)
    change = partial(real if mode is None else partial(fake, mode=mode), dtype=request.dtype)
    module, changed = stand_in(request.module, change)
    take = partial(_input, change, None if mode is not None else fill)
    args, kwargs = (mapped(nest, take) for nest in (request.args, dict(request.kwargs)))
    ledger = Ledger()
    for kind, tensors in (
        ("parameters", module.parameters()),
        ("buffers", module.buffers()),
        ("inputs", tensors_in((args, kwargs))),
    ):
        for tensor in tensors:
            ledger.watch(tensor, kind, None)
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(quiet())
        # Dropout on real tensors would draw from the caller's stream.
        enter(torch.random.fork_rng(devices=[]))
        enter(torch.set_grad_enabled(request.gradients))
        if mode is not None:
            enter(mode)
        if lends:
            enter(lent(request.module, changed))
        calls = enter(watched_calls(module, request.module))
        tracer = enter(Tracer(request.formulas, calls, ledger, () if lends else changed))
        if functions:
            enter(ComplexConvolutions(tracer))
        try:
            subject = Subject(module, args, kwargs, calls, ledger, tracer, device, {}, computed)
            return request.run(subject), tracer
        except ModelspaceError:
            if tracer.reached_original:
                return None, tracer
            raise


def _input(change: Callable[[Tensor], Tensor], fill: int | None, leaf: Tensor | Spec) -> Tensor:
    """An input's stand-in, filled where it has no values and needs some."""
    if isinstance(leaf, Tensor) and (fill is None or not leaf.is_meta):
        return change(leaf.detach())
    if fill is None:
        return change(torch.empty(leaf.shape, dtype=leaf.dtype, device="meta"))
    if isinstance(leaf, Spec) and leaf.below:
        drawn = torch.Generator().manual_seed(0)
        return torch.randint(leaf.below, leaf.shape, dtype=leaf.dtype, generator=drawn)
    return change(torch.full(leaf.shape, fill, dtype=leaf.dtype))
