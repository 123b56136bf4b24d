"""One member at a time, in a plain module into which each member's values are put."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from modelspace.engine.lowerings import lowered
from modelspace.engine.lowerings.attention import without_fast_paths
from modelspace.engine.lowerings.checkpoints import without_checkpoints
from modelspace.engine.lowerings.embedding import renormalised
from modelspace.engine.randomness import Draws, forward_draws
from modelspace.space import ModelSpace


class Single:
    """A module of the space: what the plain loop has, without making it anew for each member.

    Args:
        space: The space.
        device: Where it computes.
        products: The type of matrix products, where it is not the coordinates' own.

    Attributes:
        leaves: The module's trainable parameters, by name: what a gradient is taken with respect to.
    """

    def __init__(self, space: ModelSpace, device: torch.device, products: torch.dtype | None):
        written = renormalised(space.template)
        self._module = space.copied_template(apart=written).to(device)
        self._space = space
        self._device = device
        self._products = products
        self.leaves = {n: p for n, p in self._module.named_parameters() if p.requires_grad}
        names = {id(buffer): name for name, buffer in self._module.named_buffers()}
        self._buffers = [
            (layer._buffers, key, names[id(buffer)])
            for layer in self._module.modules()
            for key, buffer in layer._buffers.items()
            if buffer is not None
        ]
        self._renormalised = written
        self._shared = {
            name: self._module.get_parameter(name) for name in self._renormalised if name not in self.leaves
        }
        self._mode: bool | None = None
        self._quiet: set[bool] = set()
        self._draws = False

    def __call__(
        self,
        point: Float[Tensor, "parameter"],
        buffers: Mapping[str, Tensor],
        inputs: Tensor,
        *,
        training: bool,
        seed: Int[Tensor, ""] | None = None,
        step: Int[Tensor, ""] | None = None,
    ) -> tuple[Any, dict[str, Tensor]]:
        """The outputs, and copies of the buffers as the forward left them.

        Args:
            point: The member's row. In training it is written into where an embedding with ``max_norm`` is.
            buffers: By name; they stay as they are.
            inputs: ``[batch, *sample]``.
            training: The module's mode.
            seed: The member's seed.
            step: The optimizer step.
        """
        views = self._space.layout.views(point)
        for name, leaf in self.leaves.items():
            # A copy begins at an aligned address, as a module's own parameter does: a matrix product may add up its
            # terms in another order from an address that does not, and the loop promises every bit.
            leaf.data = views[name].clone()
        for name, table in self._shared.items():
            table.data = self._space.frozen[name].to(self._device, copy=True)
        if training is not self._mode:
            self._module.train(training)
            self._mode = training
        draws = forward_draws(training, seed, step, self._device)
        outputs = self._forward(buffers, inputs, training, draws)
        if training:
            for name in self._renormalised:
                if name in self.leaves:
                    views[name].copy_(self.leaves[name].detach())
        after = ((name, held[key]) for held, key, name in self._buffers)
        return outputs, {name: value for name, value in after if value is not None}

    def _forward(
        self, buffers: Mapping[str, Tensor], inputs: Tensor, training: bool, draws: Draws | None
    ) -> Any:
        """A network that draws nothing needs nobody to look at its operations: that is a fifth of a small one's time.

        Whether it does is seen at the first call; that it still does not, by PyTorch's generator.
        """
        if training in self._quiet:
            before = torch.get_rng_state()
            with without_checkpoints(), without_fast_paths():
                outputs = self._called(buffers, inputs)
            if torch.equal(before, torch.get_rng_state()):
                return outputs
            torch.set_rng_state(before)
            self._quiet.clear()
            self._draws = True
        with lowered(draws, batched=False):
            outputs = self._called(buffers, inputs)
        if draws is not None and draws.site == 0 and not self._draws and self._device.type == "cpu":
            self._quiet.add(training)
        return outputs

    def _called(self, buffers: Mapping[str, Tensor], inputs: Tensor) -> Any:
        for held, key, name in self._buffers:
            if name in buffers:
                held[key] = buffers[name].clone()
        with self._autocast(), _quietly(self._device):
            # A copy: a network may write into its input, which belongs to the data.
            return self._module(inputs.clone())

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._products is None:
            return nullcontext()
        return torch.autocast(self._device.type, self._products)


@contextmanager
def _quietly(device: torch.device) -> Iterator[None]:
    """On a GPU recurrent layers warn at every call that their weights, which are a member's, are not in one piece."""
    if device.type != "cuda":
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="RNN module weights are not part of single contiguous chunk"
        )
        yield
