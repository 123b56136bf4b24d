"""One forward, recorded: every operation and every call of a layer, in order, with the user's line; and its graph."""

import ast
import inspect
import sysconfig
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves

from modelspace.errors import ModelspaceError, is_ours
from modelspace.trace import FunctionCall, Recorder, forward_checked

# They move values about and change none.
REARRANGING = frozenset(
    {
        *("view", "reshape", "flatten", "squeeze", "unsqueeze", "transpose", "permute", "contiguous", "t"),
        *("view_as", "reshape_as", "unflatten", "movedim", "swapaxes", "clone", "mT", "T", "expand", "chunk"),
        *("__getitem__", "select", "narrow", "split", "unbind", "alias", "identity", "float", "to"),
    }
)
_TORCH = str(Path(torch.__file__).parent)
_STANDARD = sysconfig.get_paths()["stdlib"]


class Operation(FunctionCall):
    """One function of torch, or method of a tensor, as the forward called it, in the doctor's words."""

    @property
    def path(self) -> str:
        """The module in whose forward it happened."""
        return self.call.path

    @property
    def layer(self) -> nn.Module:
        """That module."""
        return self.call.layer

    @property
    def passes(self) -> bool:
        """Whether it handed an argument back as it was."""
        return len(self.outputs) < len(self.returned)

    @cached_property
    def line(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        """``file.py:12`` of the innermost line that is not ours, PyTorch's or Python's; or nothing."""
        users = [frame for frame in self.frames if _is_users(frame.filename)]
        return _text(users[-1].filename, users[-1].lineno or 0) if users else ""

    @property
    def where(self) -> str:
        """Module and line as one phrase."""
        return place(self.path, self.layer, self.line)

    @property
    def cuts(self) -> bool:
        """Whether a gradient came in and none goes on."""
        if self.passes:
            return False
        return any(x.requires_grad for x in self.tensors) and not any(x.requires_grad for x in self.outputs)


@dataclass(eq=False)
class Call:
    """One call of one module, with the versions that its outputs had when it returned."""

    path: str
    layer: nn.Module
    inputs: list[Tensor]
    outputs: list[Tensor] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    training: bool = False
    packed: bool = False

    @property
    def where(self) -> str:
        """Path and class of the module."""
        return place(self.path, self.layer)


@dataclass(eq=False)
class Trace:
    """One forward of one module.

    Attributes:
        module: What ran.
        inputs: What it was given.
        operations: In order.
        calls: In the order in which they returned.
        result: What it returned, None where it failed.
        failure: Why it failed: the layer, what it received, the user's line.
        cause: The exception itself.
    """

    module: nn.Module
    inputs: Tensor
    operations: list[Operation] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    result: Any = None
    failure: ModelspaceError | None = None
    cause: BaseException | None = None

    @property
    def outputs(self) -> Tensor:
        """The first tensor that came out, which a loss would be given."""
        if self.failure is not None:
            raise self.failure
        return output_of(self.result)

    @cached_property
    def backward_failure(self) -> Exception | None:
        """What the backward of all that came out raised; it has run then, and the module's gradients are there.

        The graph tells less than a backward does: a reentrant checkpoint hides in one node what it computes again.
        """
        return failure_of_backward(self.result)

    def producer(self, tensor: Tensor, before: Operation | None = None) -> Operation | None:
        """Find the last operation that made or wrote a tensor, before one that may itself have written it."""
        end = len(self.operations) if before is None else self.operations.index(before)
        for operation in reversed(self.operations[:end]):
            if any(x is tensor for x in (*operation.outputs, *operation.written)):
                return operation
        return None

    def consumers(self, tensor: Tensor) -> list[Operation]:
        """List the operations that a tensor went into, except those that handed it on as it was."""
        return [o for o in self.operations if not o.passes and any(x is tensor for x in o.tensors)]

    def source_of(self, tensor: Tensor) -> Operation | None:
        """Find the operation whose values a tensor holds, through views and other mere rearrangements."""
        operation = self.producer(tensor)
        while operation is not None and operation.name in REARRANGING and operation.tensors:
            operation = self.producer(operation.tensors[0])
        return operation


def record(module: nn.Module, inputs: Tensor) -> Trace:
    """Run a module once, in the mode it has, and keep everything that happens; give a copy of the user's."""
    trace = Trace(module, inputs)
    # What hooks of ours and the caller do around the forward is in no call.
    with (
        _calls(module, trace) as begun,
        Recorder(lambda: begun[-1] if begun else None, run_recorded.__code__) as recorder,
    ):
        run_recorded(trace)
    trace.operations = [Operation(**vars(found)) for found in recorder.found]
    return trace


def run_recorded(trace: Trace) -> None:
    """Run the trace's module; the frame of this function ends the search for the user's lines."""
    try:
        trace.result = forward_checked(trace.module, trace.inputs)
    except ModelspaceError as error:
        trace.cause = error.__cause__ or error
        line = line_of(trace.cause)
        trace.failure = ModelspaceError(f"{error} (at {line})" if line else str(error))


@contextmanager
def _calls(module: nn.Module, trace: Trace) -> Iterator[list[Call]]:
    """Keep the stack of calls whose forward is running; write each into the trace when it returns."""
    begun: list[Call] = []
    names = {layer: name for name, layer in module.named_modules()}

    def enter(layer: nn.Module, args: tuple, kwargs: dict) -> None:
        packed = any(isinstance(x, PackedSequence) for x in (*args, *kwargs.values()))
        begun.append(Call(names[layer], layer, tensors_in((args, kwargs)), [], [], layer.training, packed))

    def leave(layer: nn.Module, args: tuple, output: Any) -> None:
        call = begun.pop()
        call.outputs = tensors_in(output)
        call.versions = [0 if x.is_inference() else x._version for x in call.outputs]
        trace.calls.append(call)

    handles = []
    try:
        for layer in names:
            if not isinstance(layer, torch.jit.ScriptModule):
                handles.append(layer.register_forward_pre_hook(enter, with_kwargs=True))
                handles.append(layer.register_forward_hook(leave, always_call=True))
        yield begun
    finally:
        for handle in handles:
            handle.remove()


def tensors_in(nest: Any) -> list[Tensor]:
    """List every tensor of a nest of arguments or results."""
    return [x for x in tree_leaves(nest) if isinstance(x, Tensor)]


def first_tensor(result: Any) -> Tensor | None:
    """Find the first floating-point tensor of whatever a forward returned, else its first tensor."""
    tensors = tensors_in(result)
    return next((x for x in tensors if x.is_floating_point()), tensors[0] if tensors else None)


def output_of(result: Any) -> Tensor:
    """Find the tensor that a loss would be given.

    Raises:
        ModelspaceError: there is none.
    """
    found = first_tensor(result)
    if found is None:
        raise ModelspaceError(
            f"the model returned a {type(result).__name__} without a tensor: "
            "its forward must return the tensor that the loss takes"
        )
    return found


def failure_of_backward(result: Any) -> Exception | None:
    """Accumulate gradients of every tensor that a forward returned; return what the backward raised, if it did."""
    outputs = [x for x in tensors_in(result) if x.requires_grad]
    try:
        if outputs:
            torch.autograd.backward(outputs, [torch.ones_like(x) for x in outputs])
    except Exception as error:  # a backward of the user's raises anything
        return error
    return None


def place(path: str, layer: nn.Module | None = None, line: str = "") -> str:
    """Join a module's path, its class and a line of source to one phrase."""
    kind = type(layer).__name__ if layer is not None else ""
    module = f"{path} ({kind})" if path and kind else path or kind
    return ", ".join(part for part in (module, line) if part) or "the model"


def line_of(error: BaseException | None) -> str:
    """Return ``file.py:12`` of the user's line that an exception passed last; nothing where it passed none."""
    found = ""
    trail = error.__traceback__ if error is not None else None
    while trail is not None:
        if _begins(trail.tb_frame):
            found = ""
        elif _is_users(trail.tb_frame.f_code.co_filename):
            found = _text(trail.tb_frame.f_code.co_filename, trail.tb_lineno)
        trail = trail.tb_next
    return found


def defined_at(function: Any) -> str:
    """Return ``file.py:12`` of the line where a function begins; nothing where there is no source."""
    try:
        return _text(inspect.getsourcefile(function) or "", inspect.getsourcelines(function)[1])
    except (OSError, TypeError):
        return ""


def source_of(function: Any) -> Iterator[tuple[ast.AST, int]]:
    """Yield the nodes of a function's syntax tree and their lines in its file; none where there is no source."""
    try:
        lines, start = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return
    for node in ast.walk(tree):
        yield node, start + getattr(node, "lineno", 1) - 1


def _begins(frame: FrameType) -> bool:
    """Tell whether a frame is the one in which the doctor runs the model."""
    return frame.f_code.co_name == "run_recorded" and is_ours(frame.f_code.co_filename)


def _is_users(file: str) -> bool:
    if is_ours(file) or file.startswith(_TORCH) or "jaxtyping" in file:
        return False
    return "site-packages" in file or not file.startswith((_STANDARD, "<frozen"))


def _text(file: str, line: int) -> str:
    path, here = Path(file), Path.cwd()
    return f"{path.relative_to(here) if path.is_relative_to(here) else path.name}:{line}"
