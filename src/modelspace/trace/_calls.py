"""Which module call is under way: every call of every submodule, nested, in the order in which they begin."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from modelspace.trace._nests import tensors_in

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
        repeating: Whether calls are made again, in a backward under activation checkpointing: they are no new calls.
    """

    names: dict[nn.Module, str]
    made: list[Call] = field(default_factory=list)
    stack: list[int] = field(default_factory=list)
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

    def after(layer: nn.Module, args: Any, output: Any) -> None:
        if layer in own and calls.stack and calls.made[calls.stack[-1]].module is own[layer]:
            calls.leave(output)

    # Called after a failure too, which the user's own forward may catch.
    handles = [
        register_module_forward_pre_hook(before),
        register_module_forward_hook(after, always_call=True),
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
