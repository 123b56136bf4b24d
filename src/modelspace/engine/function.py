"""f_p: an architecture's forward as a function of its parameters and buffers."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from modelspace.engine.allocator import keep_freed_memory
from modelspace.engine.lowerings import Lowered
from modelspace.engine.randomness import stream_seed
from modelspace.space import ModelSpace


class _WithBuffers(nn.Module):
    """The module, which also returns its buffers as the forward left them, written in place or replaced."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, inputs: Tensor) -> tuple[Any, dict[str, Tensor]]:
        outputs = self.module(inputs)
        return outputs, dict(self.module.named_buffers())


class Function:
    """The function f of a space: (parameters, buffers, inputs) ↦ (outputs, buffers after).

    Args:
        space: The space.
        device: Where it computes.
    """

    def __init__(self, space: ModelSpace, device: torch.device | str = "cpu"):
        keep_freed_memory()
        self.space = space
        self.device = torch.device(device)
        self._module = _WithBuffers(copy.deepcopy(space.template).to(device))
        self.frozen = {n: p.to(device) for n, p in space.frozen.items()}

    def __call__(
        self,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        inputs: Tensor,
        *,
        training: bool,
        seed: Int[Tensor, ""] | None = None,
        step: Int[Tensor, ""] | None = None,
        batched: bool,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One member's outputs and buffers after the forward.

        Args:
            parameters: By name; a tied parameter under its first name.
            buffers: By name.
            inputs: ``[batch, *sample]``.
            training: The module's mode.
            seed: The member's seed; in training its random operations are a function of it and ``step``.
            step: The optimizer step, 0 at the first. With seed and step, and not ``batched``, PyTorch's
                generators are seeded too, for what only they can draw: fork them outside.
            batched: Whether the tensors are seen through ``vmap``.
        """
        self._module.train(training)
        tensors = {**self.frozen, **parameters, **buffers}
        named = {f"module.{name}": value for name, value in tensors.items()}
        with Lowered(seed if training else None, step, batched=batched):
            if batched:
                with _batched_throughout():
                    return functional_call(self._module, named, (inputs,))
            if seed is not None and step is not None:
                torch.manual_seed(stream_seed(int(seed), int(step)))
            return functional_call(self._module, named, (inputs,))


@contextmanager
def _batched_throughout() -> Iterator[None]:
    """Under ``vmap``, an operation without a batched form is an error that names it, not a hidden loop."""
    functorch = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    before = functorch._is_vmap_fallback_enabled()
    functorch._set_vmap_fallback_enabled(False)
    try:
        # Attention as matrix products has a batched form, the fused kernels have none.
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        functorch._set_vmap_fallback_enabled(before)
