"""One pass over one batch, forward and backward, with everything that it does on the books."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import get_gradient_edge

from modelspace.errors import ModelspaceError, first_line
from modelspace.space.anatomy.calls import Calls, watched_calls
from modelspace.space.anatomy.formulas import Formula
from modelspace.space.anatomy.nests import Spec, mapped, tensors_in
from modelspace.space.anatomy.standin import fake, needs_values, quiet, real, stand_in
from modelspace.space.anatomy.tracer import Tracer, in_phase
from modelspace.space.forward import forward_explained
from modelspace.space.ledger import Ledger

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
    """

    module: nn.Module
    args: tuple
    kwargs: dict[str, Any]
    calls: Calls
    ledger: Ledger
    tracer: Tracer
    device: Device
    saved: dict[int | None, int]


@dataclass(frozen=True)
class Request:
    """What to trace.

    Attributes:
        module: Any module, on any device.
        args: Positional inputs, as nests of tensors or of `Spec`.
        kwargs: Keyword inputs.
        formulas: FLOP by operation.
        dtype: A floating-point type to cast module and inputs to; as they are where None.
    """

    module: nn.Module
    args: tuple
    kwargs: Mapping[str, Any]
    formulas: Mapping[Any, Formula]
    dtype: torch.dtype | None = None


def trace(request: Request, run: Callable[[Subject], Result], *, gradients: bool = True) -> Result:
    """Run a pass without values; with values where the module reads some and is small enough.

    Args:
        request: What to trace.
        run: The pass; it is called with the tracer entered.
        gradients: Whether autograd records.

    Raises:
        ModelspaceError: the pass fails, or it needs values and the module is too large for them.
    """
    try:
        return _on("fake", request, run, gradients)
    except ModelspaceError as error:
        if not needs_values(error):
            raise
        held = [*request.module.parameters(), *request.module.buffers()]
        size = sum(tensor.numel() * tensor.element_size() for tensor in held)
        if size > LARGEST_REAL:
            raise ModelspaceError(
                f"{type(request.module).__name__} reads the values of tensors, so shapes alone don't tell what it "
                f"does, and with {size:,} bytes of parameters it is too large to be computed (the limit is "
                f"{LARGEST_REAL:,}): measure a smaller one, or a part of it. {error}"
            ) from error
    return _on("cpu", request, run, gradients)


def _on(device: Device, request: Request, run: Callable[[Subject], Result], gradients: bool) -> Result:
    mode = FakeTensorMode(allow_non_fake_inputs=True) if device == "fake" else None
    change = partial(real if mode is None else partial(fake, mode=mode), dtype=request.dtype)
    module = stand_in(request.module, change)
    args, kwargs = (mapped(nest, partial(_input, change)) for nest in (request.args, dict(request.kwargs)))
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
        enter(torch.set_grad_enabled(gradients))
        if mode is not None:
            enter(mode)
        calls = enter(watched_calls(module))
        tracer = enter(Tracer(request.formulas, calls, ledger))
        return run(Subject(module, args, kwargs, calls, ledger, tracer, device, {}))


def _input(change: Callable[[Tensor], Tensor], leaf: Tensor | Spec) -> Tensor:
    if isinstance(leaf, Tensor):
        return change(leaf.detach())
    return change(torch.empty(leaf.shape, dtype=leaf.dtype, device="meta"))


def forward(subject: Subject) -> Any:
    """The module's outputs."""
    with in_phase(subject.tracer, "forward"):
        return forward_explained(subject.module, subject.args, subject.kwargs, lambda: subject.tracer.attempt)


def forward_backward(
    subject: Subject,
    loss: Callable[[Any], Tensor] | None = None,
    casting: AbstractContextManager | None = None,
) -> Any:
    """A forward, and the backward of a loss of its outputs.

    Args:
        subject: What is traced.
        loss: Makes one number of the outputs; where None, the backward of their sum is run without the sum,
            which is not the module's own operation.
        casting: Entered around forward and loss, as autocast is.

    Returns:
        The outputs and the loss, which stay alive as long as the caller keeps them.
    """
    with casting or nullcontext():
        outputs = forward(subject)
        value = None if loss is None else _loss(subject, loss, outputs)
    if value is not None:
        ends = [value]
    else:
        ends = [x for x in tensors_in(outputs) if x.requires_grad and not x.is_leaf]
    if not ends:
        return outputs, value
    edges = [get_gradient_edge(end) for end in ends]
    ones = [(end.shape, end.dtype, end.device) for end in ends]
    _record_saved(subject)
    try:
        with in_phase(subject.tracer, "backward"):
            seeds = [torch.ones((), dtype=t, device=d).expand(s) for s, t, d in ones]
            torch.autograd.backward(edges, seeds)  # pyright: ignore[reportArgumentType]
    except ModelspaceError:
        raise
    except Exception as error:
        raise ModelspaceError(
            f"the backward of {type(subject.module).__name__} failed: {first_line(error)}"
        ) from error
    for parameter in subject.module.parameters():
        block = None if parameter.grad is None else subject.ledger.block_of(parameter.grad)
        if block is not None:
            block.kind = "gradients"
    return outputs, value


def _loss(subject: Subject, loss: Callable[[Any], Tensor], outputs: Any) -> Tensor:
    with in_phase(subject.tracer, "forward"):
        try:
            return loss(outputs)
        except Exception as error:
            raise ModelspaceError(f"the loss failed on the outputs: {first_line(error)}") from error


def _record_saved(subject: Subject) -> None:
    """What the forward made and is still alive; what died was temporary."""
    for block in subject.ledger.blocks:
        if block.kind != "activations":
            continue
        if block.died is None:
            subject.saved[block.owner] = subject.saved.get(block.owner, 0) + block.bytes
        else:
            block.kind = "temporaries"
