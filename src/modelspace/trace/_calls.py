"""What a forward calls: each submodule, nested, in the order of beginnings; each function, with the user's line."""

import sys
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves

from modelspace.errors import users_line
from modelspace.trace._standin import tensors_in

Shapes = tuple[tuple[int, ...], ...]


@dataclass
class Call:
    """One call of one module.

    Attributes:
        name: The module's qualified name, "" for the outermost.
        module: The module.
        parent: The index of the call that made this one; None for the outermost.
        repeat: How many calls of the same module came before.
        output_shapes: The shape of each tensor that it returned.
    """

    name: str
    module: nn.Module
    parent: int | None
    repeat: int
    output_shapes: Shapes = ()


@dataclass
class Calls:
    """The calls so far and the ones under way.

    Attributes:
        made: Every call, in the order of their beginnings.
        stack: The indices of those under way, innermost last.
        finished: The names of those that ended well, in the order of their ends.
        repeating: Whether calls are made again, in a backward under activation checkpointing: they are no new calls.
    """

    names: dict[nn.Module, str]
    made: list[Call] = field(default_factory=list)
    stack: list[int] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    repeating: bool = False
    _of: dict[nn.Module, list[int]] = field(default_factory=lambda: defaultdict(list))
    _again: dict[nn.Module, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def current(self) -> int | None:
        """The index of the innermost call under way."""
        return self.stack[-1] if self.stack else None

    def enter(self, module: nn.Module) -> None:
        """A call begins."""
        before = self._of[module]
        if self.repeating and before:
            # Checkpointed parts are recomputed last to first.
            self._again[module] += 1
            self.stack.append(before[-1 - (self._again[module] - 1) % len(before)])
            return
        self.stack.append(len(self.made))
        parent = self.stack[-2] if len(self.stack) > 1 else None
        self.made.append(Call(self.names[module], module, parent, len(before)))
        before.append(self.stack[-1])

    def leave(self, output: Any) -> None:
        """The innermost call ends, or fails with no output."""
        call = self.made[self.stack.pop()]
        if not self.repeating:
            call.output_shapes = tuple(tuple(x.shape) for x in tensors_in(output))


@contextmanager
def watched_calls(module: nn.Module, copied: nn.Module | None = None) -> Iterator[Calls]:
    """Follow a module's calls while the block runs; those of the module that it is a copy of are its own.

    The hooks are global, not the module's own: fused kernels (``nn.TransformerEncoderLayer``) step aside for modules
    that have hooks, and what is measured would not be what runs.
    """
    calls = Calls({layer: name for name, layer in module.named_modules()})
    own = {layer: layer for layer in calls.names}
    if copied is not None:
        own.update(zip(copied.modules(), module.modules(), strict=True))

    def before(layer: nn.Module, args: Any) -> None:
        if layer in own:
            calls.enter(own[layer])

    def ended(layer: nn.Module, args: Any, output: Any) -> None:
        if layer in own:
            calls.finished.append(calls.names[own[layer]])

    def after(layer: nn.Module, args: Any, output: Any) -> None:
        if layer in own and calls.stack and calls.made[calls.stack[-1]].module is own[layer]:
            calls.leave(output)

    handles = [
        register_module_forward_pre_hook(before),
        register_module_forward_hook(ended),
        # Called after a failure too, which the user's own forward may catch.
        register_module_forward_hook(after, always_call=True),
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@dataclass(eq=False)
class FunctionCall:
    """One function of torch, or method of a tensor, as a forward calls it.

    Attributes:
        name: ``"linear"``, ``"view"``, ``"add_"``.
        call: The module call in whose forward it is: a `Call`, or what the recorder was told.
        arguments: Positional arguments, as given.
        keywords: Keyword arguments, as given.
        tensors: All tensors among the arguments.
        returned: All tensors that came out.
        written: Arguments that it wrote into.
        frames: The running lines between the forward and it, outermost first.
    """

    name: str
    call: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    tensors: list[Tensor]
    frames: list[traceback.FrameSummary]
    returned: list[Tensor] = field(default_factory=list)
    written: list[Tensor] = field(default_factory=list)

    @property
    def line(self) -> str:
        """The user's line that called it, ``line 7 of net.py: code``; empty where it can't be told."""
        return users_line(self.frames)

    @cached_property
    def outputs(self) -> list[Tensor]:
        """The tensors that it made: not an argument handed back as it is, as by dropout in evaluation."""
        unchanged = {id(x) for x in self.tensors} - {id(x) for x in self.written}
        return [x for x in self.returned if id(x) not in unchanged]


@contextmanager
def recorded(module: nn.Module, *, copies: bool = False) -> Iterator[list[FunctionCall]]:
    """Keep what the module's forwards call while the block runs, within all modes that are entered around them.

    Args:
        module: What is called; its forward is replaced by one that is followed.
        copies: Whether what comes out is copied: what is computed later may write into it.
    """
    forward, own = module.forward, "forward" in vars(module)
    whole = Call("", module, None, 0)
    with watched_calls(module) as calls:

        def followed(*args: Any, **kwargs: Any) -> Any:
            with recorder:
                return forward(*args, **kwargs)

        recorder = Recorder(
            lambda: whole if calls.current is None else calls.made[calls.current], followed.__code__, copies
        )
        module.forward = followed
        try:
            yield recorder.found
        finally:
            if own:
                module.forward = forward
            else:
                del module.forward


class Recorder(TorchFunctionMode):
    """Keep each function while this mode is entered; what one calls inside itself is its own affair.

    Args:
        current: Gives the module call under way; what is called where that is None is not kept.
        until: The code of what runs the forward: outside of it no line is the forward's.
        copies: Whether what comes out is copied.

    Attributes:
        found: The calls, in order.
    """

    def __init__(self, current: Callable[[], Any], until: CodeType, copies: bool = False):
        super().__init__()
        self.found: list[FunctionCall] = []
        self._current, self._until, self._copies = current, until, copies

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name, call = kwargs or {}, _name(func), self._current()
        if call is None or (name in _QUESTIONS and func is not torch.autograd.grad):
            return func(*args, **kwargs)
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        versions = [_version(x) for x in tensors]
        operation = FunctionCall(name, call, args, kwargs, tensors, self._frames())
        self.found.append(operation)  # before it may fail
        result = func(*args, **kwargs)
        made = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        operation.written = [x for x, was in zip(tensors, versions, strict=True) if _version(x) != was]
        operation.returned = [x.detach().clone() for x in made] if self._copies else made
        if not tensors and not made:
            self.found.pop()  # a switch, such as no_grad's
        return result

    def _frames(self) -> list[traceback.FrameSummary]:
        """The running lines down to the forward's first; their text is read when it is asked for."""
        frames: list[traceback.FrameSummary] = []
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and frame.f_code is not self._until:
            code = frame.f_code
            frames.append(
                traceback.FrameSummary(code.co_filename, frame.f_lineno, code.co_name, lookup_line=False)
            )
            frame = frame.f_back
        return frames[::-1]


def _name(func: Any) -> str:
    name = getattr(func, "__name__", type(func).__name__)
    if name in ("__get__", "__set__"):
        full = resolve_name(func) or ""
        return full.removesuffix(f".{name}").rpartition(".")[2] or getattr(func.__self__, "__name__", name)
    return name


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


# Asked of a tensor, and computing nothing.
_QUESTIONS = frozenset(
    {
        *(
            "shape",
            "dtype",
            "device",
            "requires_grad",
            "is_leaf",
            "ndim",
            "layout",
            "grad",
            "grad_fn",
            "names",
        ),
        *("size", "dim", "numel", "stride", "is_floating_point", "is_contiguous", "is_nested", "_version"),
        *(
            "is_cuda",
            "is_meta",
            "is_mkldnn",
            "is_sparse",
            "is_quantized",
            "data_ptr",
            "is_cpu",
            "is_xpu",
            "is_mps",
        ),
        *(
            "is_complex",
            "element_size",
            "nelement",
            "storage_offset",
            "is_inference",
            "get_device",
            "_is_view",
        ),
        *("_base", "ndimension", "itemsize", "nbytes", "__len__", "__hash__", "__repr__"),
    }
)
