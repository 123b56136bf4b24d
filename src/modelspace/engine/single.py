"""One member at a time, in a plain module into which each member's values are put."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from modelspace.construction import seeded_elsewhere
from modelspace.engine.lowerings import lowered
from modelspace.engine.lowerings.attention import without_fast_paths
from modelspace.engine.lowerings.embedding import renormalised
from modelspace.engine.randomness import Draws, forward_draws, stream_seed
from modelspace.space import ModelSpace


class Single:
    """A module of the space: what the plain loop has, without making it anew for each member.

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
        self._space = space
        self._device = device
        self._products = products
        self.draws_elsewhere = False
        parameters = dict(self.module.named_parameters())
        self.leaves = {name: p for name, p in parameters.items() if p.requires_grad}
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
        self._mode: bool | None = None
        self._draws: set[bool] = set()  # the modes in which it was seen to draw

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
            point: The member's row; it stays as it is: ``write_back`` puts there what was written.
            buffers: By name; they stay as they are.
            inputs: ``[batch, *sample]``.
            training: The module's mode.
            seed: The member's seed.
            step: The optimizer step.
        """
        if training is not self._mode:
            self.module.train(training)
            self._mode = training
        draws = forward_draws(training, seed, step, self._device)
        outputs = self._forward(point, buffers, inputs, training, draws)
        after = {name: held[key] for held, key, name, _ in self._buffers if held[key] is not None}
        # The alias of a buffer that was written in place: the next member's values get memory of their own.
        return outputs, {name: value.data for name, value in {**after, **self._frozen}.items()}

    def write_back(self, point: Float[Tensor, "parameter"]) -> None:
        """Put into the member's row what its forward and backward made of the parameters.

        Args:
            point: The row of the last call.
        """
        leaves = [leaf.data.reshape(-1) for leaf in self.leaves.values()]
        torch.cat(leaves, out=point)

    def _forward(
        self,
        point: Tensor,
        buffers: Mapping[str, Tensor],
        inputs: Tensor,
        training: bool,
        draws: Draws | None,
    ) -> Any:
        """A network that draws nothing needs nobody to look at its operations: that is a fifth of a small one's time.

        Whether it draws is seen by PyTorch's generator.
        """
        if training not in self._draws and self._device.type == "cpu":
            before = torch.get_rng_state()
            with without_fast_paths():
                outputs = self._called(point, buffers, inputs, draws)
            if torch.equal(before, torch.get_rng_state()):
                return outputs
            torch.set_rng_state(before)
            self._draws.add(training)
        with lowered(draws, batched=False):
            return self._called(point, buffers, inputs, draws)

    def _called(
        self, point: Tensor, buffers: Mapping[str, Tensor], inputs: Tensor, draws: Draws | None
    ) -> Any:
        self._put(point, buffers)
        elsewhere: AbstractContextManager[Any] = nullcontext()
        if self.draws_elsewhere and draws is not None:
            elsewhere = seeded_elsewhere(stream_seed(int(draws.seed), int(draws.step), 0))
        with self._autocast(), _quietly(self._device), elsewhere:
            # A copy: a network may write into its input, which belongs to the data.
            return self.module(inputs.clone())

    def _put(self, point: Tensor, buffers: Mapping[str, Tensor]) -> None:
        views = self._space.layout.views(point)
        for name, leaf in self.leaves.items():
            # A copy begins at an aligned address, as a module's own parameter does: a matrix product may add up its
            # terms in another order from an address that does not, and the loop promises every bit.
            leaf.data = views[name].clone()
        for name, parameter in self._frozen.items():
            parameter.data = buffers[name].clone()
        for name, table in self._shared.items():
            table.data = self._space.shared[name].to(self._device, copy=True)
        for held, key, name, buffer in self._buffers:
            buffer.data = buffers[name].clone()
            held[key] = buffer

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
