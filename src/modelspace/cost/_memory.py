"""The memory of a training step: its peak, when it is, and what fills it; what an optimizer holds."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from modelspace.cost._anatomy import arguments
from modelspace.cost._formulas import all_formulas
from modelspace.errors import ModelspaceError, first_line, unknown_name
from modelspace.optimizers import Optimizer, applied
from modelspace.precision import format_named
from modelspace.trace import Block, PeakMemory, Subject, trace

_Maker = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
# Of an optimizer of this library, which updates all coordinates as one matrix: see `update_memory`.
_Matrix = tuple[int, int]

_NAMED: dict[str, _Maker] = {
    "sgd": partial(torch.optim.SGD, lr=0.1),
    "momentum": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    "sgd+momentum": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    **{
        kind.__name__.lower(): kind
        for kind in (
            *(torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adamax),
            *(
                torch.optim.Adagrad,
                torch.optim.Adadelta,
                torch.optim.RMSprop,
                torch.optim.Rprop,
                torch.optim.ASGD,
            ),
            torch.optim.Adafactor,
        )
    },
}


@dataclass(frozen=True)
class StepMemory:
    """The most bytes that one step holds at once, and what they are.

    Attributes:
        peak_bytes: All of them together.
        by_kind: Parameters, buffers, inputs, gradients, optimizer state, activations (made in the forward and kept
            for the backward), temporaries (anything else, such as gradients of activations).
        by_module: The same bytes by the qualified name of the module whose parameters, buffers or operations they
            are; "" is the module itself, and None what belongs to none (inputs, optimizer state).
        phase: Where the peak is: forward, backward or update.
        unknown: Operations that ran with memory of their own that no shape tells (convolutions, recurrences):
            theirs comes on top, and is not 0.
        device: ``"fake"``, or ``"cpu"`` where the forward reads values and was computed.
    """

    peak_bytes: int
    by_kind: Mapping[str, int]
    by_module: Mapping[str | None, int]
    phase: str
    unknown: tuple[str, ...]
    device: str


def training_memory(
    module: nn.Module,
    input_shape: tuple[int, ...] | None = None,
    *,
    optimizer: Any = "adam",
    precision: str | int = "32",
    batch_size: int = 1,
    input_dtype: torch.dtype = torch.float32,
    inputs: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    loss: Callable[[Any], Tensor] | None = None,
) -> StepMemory:
    """The peak of one training step, the second or a later one: forward, loss, backward, update.

    Gradients are freed before the forward, as ``zero_grad()`` does; activation checkpointing is seen as it runs. It
    is the memory of tensors: a kernel's own scratch, the allocator's rounding and the framework come on top.

    Args:
        module: Any module, on any device, meta included.
        input_shape: One sample's shape; or ``inputs``, the batch itself, as in `anatomy`.
        optimizer: ``"sgd"``, ``"momentum"``, ``"adam"``, ``"adamw"``, ``"rmsprop"``, ``"nadam"``, ``"adafactor"``, …,
            as PyTorch has them on a CPU (one tensor at a time); a function that makes a
            ``torch.optim.Optimizer`` of a list of parameters (``lambda p: torch.optim.Adam(p, foreach=True)`` is
            what PyTorch takes on a GPU); or an optimizer of this library, whose update makes new points and a new
            state beside the old ones.
        precision: The number format, as `modelspace.fit` names it: ``"32"``, the module's own type, whose memory
            ``"tf32"`` has too; ``"64"``; ``"bf16-mixed"`` or ``"16-mixed"``, products in 16 bits under
            ``torch.autocast``; and ``"bf16-true"`` or ``"16-true"``, all in 16 bits.
        batch_size: Samples in the batch.
        input_dtype: The batch's type.
        inputs: See `anatomy`.
        kwargs: See `anatomy`.
        loss: Makes one number of the outputs; the outputs' sum, at no cost, where None.

    Raises:
        ModelspaceError: as `anatomy`; an unknown optimizer or precision.

    Example:
        >>> net = nn.Linear(1000, 1000, bias=False)
        >>> found = training_memory(net, (1000,), optimizer="adam")
        >>> found.by_kind["parameters"], found.by_kind["optimizer state"], found.phase
        (4000000, 8000004, 'update')
    """
    cast, casting = _precision(precision)
    update = _prepared(optimizer, module, cast)
    args = arguments(module, input_shape, batch_size, input_dtype, inputs)

    def run(subject: Subject) -> StepMemory:
        made = _begin(subject, update)
        # A training loop still holds them when it updates.
        _outputs = subject.forward_backward(loss, casting)
        _finish(subject, update, made)
        return _found(subject)

    return trace(module, args, kwargs or {}, run, formulas=all_formulas(), dtype=cast)


def inference_memory(
    module: nn.Module,
    input_shape: tuple[int, ...] | None = None,
    *,
    precision: str | int = "32",
    batch_size: int = 1,
    input_dtype: torch.dtype = torch.float32,
    inputs: Any = None,
    kwargs: Mapping[str, Any] | None = None,
) -> StepMemory:
    """The peak of one forward without gradients, in the module's own mode.

    Args:
        module: Any module, on any device, meta included.
        input_shape: One sample's shape; or ``inputs``, the batch itself, as in `anatomy`.
        precision: See `training_memory`.
        batch_size: Samples in the batch.
        input_dtype: The batch's type.
        inputs: See `anatomy`.
        kwargs: See `anatomy`.

    Raises:
        ModelspaceError: as `anatomy`; an unknown precision.

    Example:
        >>> net = nn.Sequential(nn.Linear(100, 100, bias=False), nn.Linear(100, 100, bias=False))
        >>> inference_memory(net, (100,)).peak_bytes == 4 * (2 * 100 * 100 + 3 * 100)
        True
    """
    cast, casting = _precision(precision)
    args = arguments(module, input_shape, batch_size, input_dtype, inputs)

    def run(subject: Subject) -> StepMemory:
        with casting:
            subject.forward()
        return _found(subject)

    return trace(module, args, kwargs or {}, run, formulas=all_formulas(), dtype=cast, gradients=False)


def _precision(name: str | int) -> tuple[torch.dtype | None, AbstractContextManager[Any]]:
    """The type that parameters are cast to, and what is entered around forward and loss."""
    cast, products = format_named(name)
    return cast, nullcontext() if products is None else torch.autocast("cpu", dtype=products)


def _found(subject: Subject) -> StepMemory:
    ledger = subject.ledger
    owners = _owners(subject)

    def module_of(block: Block) -> str | None:
        if id(block) in owners:
            return owners[id(block)]
        return None if block.owner is None else subject.calls.made[block.owner].name

    kinds: Counter = ledger.at_peak()
    return StepMemory(
        peak_bytes=ledger.peak,
        by_kind=dict(kinds),
        by_module=dict(ledger.at_peak(module_of).most_common()),
        phase=ledger.peak_phase,
        unknown=tuple(sorted(subject.tracer.workspaces)),
        device=subject.device,
    )


def _owners(subject: Subject) -> dict[int, str]:
    """The module of each parameter, buffer and gradient, by the identity of its entry."""
    found: dict[int, str] = {}
    for name, layer in subject.module.named_modules():
        own = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
        gradients = [p.grad for p in layer.parameters(recurse=False) if p.grad is not None]
        for tensor in [*own, *gradients]:
            block = subject.ledger.block_of(tensor)
            if block is not None:
                found.setdefault(id(block), name)
    return found


def _prepared(optimizer: Any, module: nn.Module, dtype: torch.dtype | None) -> _Maker | _Matrix:
    """What the update of a module's parameters, cast to a type, will be: see `training_memory`."""
    if isinstance(optimizer, str):
        if optimizer.lower() not in _NAMED:
            raise unknown_name("optimizer", optimizer, _NAMED)
        return _NAMED[optimizer.lower()]
    if all(hasattr(optimizer, name) for name in ("init", "apply", "coefficients", "hyperparameters")):
        return _matrix(optimizer, module, dtype)
    if callable(optimizer):
        return cast(_Maker, optimizer)
    raise ModelspaceError(
        f"an optimizer is one of {', '.join(_NAMED)}, a function of a list of parameters that makes a "
        f"torch.optim.Optimizer, or an optimizer of this library; received {type(optimizer).__name__}"
    )


def _begin(subject: Subject, update: _Maker | _Matrix) -> torch.optim.Optimizer | None:
    """Put an optimizer's state on the books, as it is from the second step on; the peak counts from here.

    Raises:
        ModelspaceError: the optimizer can't be made of these parameters.
    """
    trainable = [p for p in subject.module.parameters() if p.requires_grad]
    if isinstance(update, tuple):
        subject.ledger.hold(update[0], "optimizer state")
        subject.ledger.forget_peak()
        return None
    if not trainable:
        return None
    with _explained():
        made = update(trainable)
        with subject.tracer.in_phase("update"):
            for parameter in trainable:
                parameter.grad = torch.zeros_like(parameter)
            made.step()
            made.zero_grad(set_to_none=True)
    states = [value for state in made.state.values() for value in state.values()]
    for tensor in (value for value in states if isinstance(value, Tensor)):
        block = subject.ledger.block_of(tensor)
        if block is not None:
            block.kind = "optimizer state"
    subject.ledger.forget_peak()
    return made


def _finish(subject: Subject, update: _Maker | _Matrix, made: torch.optim.Optimizer | None) -> None:
    """Run the update that ends a step."""
    with subject.tracer.in_phase("update"):
        if isinstance(update, tuple):
            subject.ledger.hold(update[1], "temporaries")
        elif made is not None:
            with _explained():
                made.step()


@contextmanager
def _explained() -> Iterator[None]:
    """Raise what an optimizer refuses as a mistake of its choice."""
    try:
        yield
    except ModelspaceError:
        raise
    except Exception as error:
        hint = " (sgd takes sparse gradients; adam and rmsprop need layers without sparse=True)"
        why = first_line(error) + (hint if "sparse" in str(error) else "")
        raise ModelspaceError(f"the optimizer can't update these parameters: {why}") from error


def _matrix(optimizer: Any, module: nn.Module, dtype: torch.dtype | None) -> _Matrix:
    trainable = [p for p in module.parameters() if p.requires_grad]
    kind = dtype or (trainable[0].dtype if trainable else torch.float32)
    count = sum(p.numel() for p in trainable)
    columns = {
        name: torch.tensor(value, dtype=torch.float64).reshape(1, -1)
        for name, value in optimizer.hyperparameters().items()
    }
    names = optimizer.coefficients(columns, torch.tensor(2.0, dtype=torch.float64))
    optimizer = optimizer.on(tuple(tuple(p.shape) for p in trainable))
    return update_memory(optimizer, torch.empty(1, count, dtype=kind, device="meta"), names)


def update_memory(
    optimizer: Optimizer, points: Shaped[Tensor, "member parameter"], names: Iterable[str]
) -> tuple[int, int]:
    """Find what an optimizer of this library holds, by one update on the meta device.

    Args:
        optimizer: It.
        points: One row a member, on the meta device.
        names: What its update multiplies with, one number a member each.

    Returns:
        Bytes of its state, and the most that an update takes beside points, gradient and state.
    """
    gradient, state = torch.empty_like(points), optimizer.init(points)
    kind = points.dtype.to_real()
    coefficients = {name: torch.empty(len(points), 1, dtype=kind, device=points.device) for name in names}
    held = sum(tensor.nbytes for tensor in state.values())
    with PeakMemory([points, gradient, *state.values()]) as memory:
        applied(optimizer, gradient, state, points, coefficients)
    return held, max(0, memory.peak - 2 * points.nbytes - held)
