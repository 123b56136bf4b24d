"""One forward, recorded: every operation and every call of a layer, in order, with the user's line."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves

from modelspace.doctor.location import line_of, place, user_line
from modelspace.errors import ModelspaceError
from modelspace.trace import forward_checked


@dataclass(eq=False)
class Operation:
    """One operation: a function of torch or a method of a tensor, as the forward called it.

    Attributes:
        name: ``"linear"``, ``"view"``, ``"add_"``.
        path: The module in whose forward it happened.
        layer: That module.
        line: ``file.py:12`` of the user's source, or nothing.
        arguments: Positional arguments, as given.
        keywords: Keyword arguments, as given.
        tensors: All tensors among the arguments.
        outputs: All tensors that came out.
        written: Arguments that it wrote into.
        passes: Whether it handed an argument back as it was.
    """

    name: str
    path: str
    layer: nn.Module
    line: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    tensors: list[Tensor]
    outputs: list[Tensor] = field(default_factory=list)
    written: list[Tensor] = field(default_factory=list)
    passes: bool = False

    @property
    def where(self) -> str:
        """Module and line as one phrase."""
        return place(self.path, self.line, type(self.layer).__name__)

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
    operations: list[Operation]
    calls: list[Call]
    result: Any = None
    failure: ModelspaceError | None = None
    cause: BaseException | None = None

    @property
    def outputs(self) -> Tensor:
        """The first tensor that came out, which a loss would be given."""
        if self.failure is not None:
            raise self.failure
        return output_of(self.result)

    def producer(self, tensor: Tensor, before: Operation | None = None) -> Operation | None:
        """The last operation that made or wrote a tensor.

        Args:
            tensor: Of this trace.
            before: Look at what came before this operation only, which may itself have written it.
        """
        end = len(self.operations) if before is None else self.operations.index(before)
        for operation in reversed(self.operations[:end]):
            if any(x is tensor for x in (*operation.outputs, *operation.written)):
                return operation
        return None

    def consumers(self, tensor: Tensor) -> list[Operation]:
        """The operations that a tensor went into, except those that handed it on as it was."""
        return [o for o in self.operations if not o.passes and any(x is tensor for x in o.tensors)]

    def source_of(self, tensor: Tensor) -> Operation | None:
        """The operation whose values a tensor holds, through views and other mere rearrangements."""
        operation = self.producer(tensor)
        while operation is not None and operation.name in REARRANGING and operation.tensors:
            operation = self.producer(operation.tensors[0])
        return operation


# They move values about and change none.
REARRANGING = frozenset(
    {
        *("view", "reshape", "flatten", "squeeze", "unsqueeze", "transpose", "permute", "contiguous", "t"),
        *("view_as", "reshape_as", "unflatten", "movedim", "swapaxes", "clone", "mT", "T", "expand", "chunk"),
        *("__getitem__", "select", "narrow", "split", "unbind", "alias", "identity", "float", "to"),
    }
)


def first_tensor(result: Any) -> Tensor | None:
    """The first floating-point tensor of whatever a forward returned, else its first tensor."""
    tensors = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
    return next((x for x in tensors if x.is_floating_point()), tensors[0] if tensors else None)


def output_of(result: Any) -> Tensor:
    """The tensor that a loss would be given.

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


def record(module: nn.Module, inputs: Tensor) -> Trace:
    """Run a module once and keep everything that happens.

    Args:
        module: In the mode that is asked about; it is run as it is, so give a copy.
        inputs: A batch.
    """
    trace = Trace(module, inputs, [], [])
    with _calls(module, trace) as stack, _Recorder(trace, stack):
        run_recorded(trace)
    return trace


def run_recorded(trace: Trace) -> None:
    """Run the trace's module; the frame of this function ends the search for the user's lines."""
    try:
        trace.result = forward_checked(trace.module, trace.inputs)
    except ModelspaceError as error:
        trace.cause = error.__cause__ or error
        line = line_of(trace.cause)
        trace.failure = ModelspaceError(f"{error} (at {line})" if line else str(error))


class _Recorder(TorchFunctionMode):
    """Writes down each operation; what an operation calls inside itself is not seen, being its own affair."""

    def __init__(self, trace: Trace, stack: list[tuple[str, nn.Module]]):
        super().__init__()
        self.trace, self.stack = trace, stack

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if not self.stack:  # hooks of ours and what the caller does around the forward
            return func(*args, **kwargs)
        name = _name(func)
        if name in _ATTRIBUTES and func is not torch.autograd.grad:
            return func(*args, **kwargs)
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        versions = [_version(x) for x in tensors]
        path, layer = self.stack[-1]
        operation = Operation(name, path, layer, user_line(), args, kwargs, tensors)
        self.trace.operations.append(operation)
        result = func(*args, **kwargs)
        operation.written = [
            x for x, version in zip(tensors, versions, strict=True) if _version(x) != version
        ]
        # An argument handed back as it is, as dropout does in evaluation, is not made here.
        unchanged = {id(x) for x in tensors} - {id(x) for x in operation.written}
        made = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        operation.outputs = [x for x in made if id(x) not in unchanged]
        if not tensors and not made:
            self.trace.operations.pop()  # a switch, such as no_grad's
        operation.passes = len(operation.outputs) < len(made)
        return result


# Questions about a tensor, which compute nothing.
_ATTRIBUTES = frozenset(
    {
        *("shape", "dtype", "device", "requires_grad", "is_leaf", "ndim", "layout", "grad", "grad_fn"),
        *("size", "dim", "numel", "stride", "is_floating_point", "is_contiguous", "is_nested", "_version"),
        *("is_cuda", "is_meta", "is_mkldnn", "is_sparse", "is_quantized", "names", "data_ptr", "is_cpu"),
        *(
            "__len__",
            "is_complex",
            "element_size",
            "nelement",
            "storage_offset",
            "is_inference",
            "get_device",
        ),
        *(
            "_is_view",
            "_base",
            "ndimension",
            "itemsize",
            "nbytes",
            "is_xpu",
            "is_mps",
            "__hash__",
            "__repr__",
        ),
    }
)


def _name(func: Any) -> str:
    name = getattr(func, "__name__", "")
    if name in ("__get__", "__set__"):
        full = resolve_name(func) or ""
        return full.removesuffix(f".{name}").rpartition(".")[2] or getattr(func.__self__, "__name__", name)
    return name


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


@contextmanager
def _calls(module: nn.Module, trace: Trace) -> Iterator[list[tuple[str, nn.Module]]]:
    """The stack of modules whose forward is running; each call is written into the trace when it returns."""
    stack: list[tuple[str, nn.Module]] = []
    begun: list[Call] = []
    names = {layer: name for name, layer in module.named_modules()}

    def enter(layer: nn.Module, args: tuple, kwargs: dict) -> None:
        stack.append((names[layer], layer))
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        begun.append(Call(names[layer], layer, given, training=layer.training))

    def leave(layer: nn.Module, args: tuple, output: Any) -> None:
        stack.pop()
        call = begun.pop()
        call.outputs = [x for x in tree_leaves(output) if isinstance(x, Tensor)]
        call.versions = [_version(x) for x in call.outputs]
        trace.calls.append(call)

    handles = []
    try:
        for layer in names:
            if isinstance(layer, torch.jit.ScriptModule):
                continue
            handles.append(layer.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(layer.register_forward_hook(leave, always_call=True))
        yield stack
    finally:
        for handle in handles:
            handle.remove()
