"""``torch.func`` as in PyTorch's tutorial on model ensembling: all members stacked, ``vmap`` of ``grad``.

Source: https://docs.pytorch.org/tutorials/intermediate/ensembling.html, with an Adam written elementwise, since
``torch.optim`` takes one learning rate for a stack.
"""

import copy
import re
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap

from benchmarks.device import synchronise, use
from benchmarks.loop import LR
from benchmarks.networks import NETWORKS
from benchmarks.peers.pace import Pace
from benchmarks.peers.samples import read

_BETAS, _EPS = (0.9, 0.999), 1e-8


class Peer:
    """All members at once. Frozen parameters are the first member's, shared by all.

    Args:
        network: Its name.
        batches: The file of the batches.
        members: K.
        device: Where.
    """

    def __init__(self, network: str, batches: str, members: int, device: str = "cpu"):
        use(device)
        self.facts = {"members": members}
        self._ensemble = Ensemble(network, members, device)
        samples = [(torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)) for x, y in read(batches)]
        try:
            self._pace = Pace(lambda batch: self._ensemble.step(*batch), samples, lambda: synchronise(device))
        except RuntimeError as error:
            operation = re.search(r"Batching rule not implemented for (aten::[\w.]*\w)", str(error))
            raise RuntimeError(f"no batched form of {operation[1]}" if operation else str(error)) from error

    def milliseconds(self, seconds: float) -> float:
        """A step and member, over about so many seconds."""
        return self._pace.turn(seconds) / self.facts["members"]


class Ensemble:
    """K stacked members of a network, drawn one after the other, and their Adam, on a device.

    Attributes:
        points: The trained parameters, ``[K, …]`` each.
        buffers: ``[K, …]`` each.
    """

    def __init__(self, network: str, members: int, device: str = "cpu"):
        modules = [NETWORKS[network]().to(device) for _ in range(members)]
        stacked, self.buffers = stack_module_state(modules)
        alike = {n: p.detach() for n, p in modules[0].named_parameters() if not p.requires_grad}
        self.points = {name: p.detach() for name, p in stacked.items() if name not in alike}
        skeleton = copy.deepcopy(modules[0]).to("meta")

        def loss(
            point: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor, labels: Tensor
        ) -> tuple[Tensor, dict[str, Tensor]]:
            # BatchNorm writes into its buffers, which grad allows only for what was made inside it.
            buffers = {name: value.clone() for name, value in buffers.items()}
            outputs = functional_call(skeleton, ({**point, **alike}, buffers), (inputs,))
            return F.cross_entropy(outputs, labels), buffers

        gradient: Any = grad(loss, has_aux=True)
        self._gradient = vmap(gradient, in_dims=(0, 0, None, None), randomness="different")
        self._first = {name: torch.zeros_like(p) for name, p in self.points.items()}
        self._second = {name: torch.zeros_like(p) for name, p in self.points.items()}
        self._count = 0

    def step(self, inputs: Tensor, labels: Tensor) -> None:
        """One update of every member on one batch."""
        gradient, self.buffers = self._gradient(self.points, self.buffers, inputs, labels)
        self._count += 1
        first, second = (1 - beta**self._count for beta in _BETAS)
        for name, g in gradient.items():
            m, v = self._first[name], self._second[name]
            m.lerp_(g, 1 - _BETAS[0])
            v.mul_(_BETAS[1]).addcmul_(g, g, value=1 - _BETAS[1])
            self.points[name].addcdiv_(m, (v / second).sqrt_().add_(_EPS), value=-LR / first)
