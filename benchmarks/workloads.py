"""What is timed: a network, its data and a batch size, with what it has to reach."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from benchmarks.device import is_gpu
from benchmarks.networks import NETWORKS
from benchmarks.record import Targets
from modelspace import ModelSpace, data
from modelspace.data import Data, of_splits
from modelspace.errors import unknown_name

NEVER_SLOWER = Targets()
_SMALL_ON_GPU = Targets(loop=100)


@dataclass(frozen=True)
class Workload:
    """One line of the table.

    Attributes:
        network: The name of the network.
        shape: One sample's shape: the 64 pixels of scikit-learn's digits as the network reads them, or
            (3, 7, 7) for ``digits-7x7``.
        batch: Samples a step.
        targets: What it has to reach on a CPU.
        gpu_targets: What on a GPU.
    """

    network: str
    shape: tuple[int, ...]
    batch: int
    targets: Targets = NEVER_SLOWER
    gpu_targets: Targets = NEVER_SLOWER

    @property
    def name(self) -> str:
        """``dummynet-32``."""
        return f"{self.network}-{self.batch}"

    @property
    def architecture(self) -> type[nn.Module]:
        """The network's class."""
        return NETWORKS[self.network]

    def targets_on(self, device: str) -> Targets:
        """What it has to reach on a device."""
        return self.gpu_targets if is_gpu(device) else self.targets

    def space(self) -> ModelSpace:
        """Its space."""
        return ModelSpace(self.architecture, input_shape=self.shape)

    def data(self) -> Data:
        """Its data, the same for every batch size."""
        if self.shape == (3, 7, 7):
            return data.digits_7x7()
        parts = {
            name: (part.inputs.reshape(-1, *self.shape), part.labels)
            for name, part in data.digits().splits.items()
        }
        return of_splits(**parts, name="digits")


WORKLOADS: tuple[Workload, ...] = (
    Workload("dummynet", (3, 7, 7), 32, Targets(loop=20, limit=0.3, jax=1.5), _SMALL_ON_GPU),
    Workload("dummynet", (3, 7, 7), 128),
    Workload("mlp", (64,), 32, Targets(loop=18, limit=0.4, jax=1.3), _SMALL_ON_GPU),
    Workload("mlp", (64,), 128, Targets(loop=7, limit=0.6, jax=1.2)),
    Workload("cnn", (1, 8, 8), 32, Targets(loop=4, limit=0.4, jax=3)),
    Workload("cnn", (1, 8, 8), 128, Targets(loop=1.8, limit=0.4, jax=2)),
    Workload("residual", (1, 8, 8), 32, Targets(loop=4, jax=1)),
    Workload("encoder", (8, 8), 32, Targets(loop=4, jax=1)),
    Workload("lstm", (8, 8), 32, Targets(loop=2, jax=1)),
    Workload("lora", (64,), 32),
)
PARTS = ("fit", "scaling")
EXTRAS = ("curve", "ten-thousand")
_CURVES = ("dummynet-32", "mlp-32", "cnn-32")


def chosen(names: Sequence[str], extras: Sequence[str] = ()) -> tuple[tuple[Workload, ...], tuple[str, ...]]:
    """The workloads and the other parts of a run.

    Args:
        names: Of workloads (``"mlp-32"``), networks (``"mlp"``: every batch size) or parts (``"scaling"``);
            none for everything but the extras.
        extras: Parts to add.

    Returns:
        Workloads in the table's order, and parts.

    Raises:
        ModelspaceError: a name is none of these.
    """
    if not names:
        return WORKLOADS, (*PARTS, *(e for e in EXTRAS if e in extras))
    parts = (*PARTS, *EXTRAS)
    known = [n for w in WORKLOADS for n in (w.name, w.network)]
    for name in names:
        if name not in known and name not in parts:
            raise unknown_name("benchmark", name, dict.fromkeys([*known, *parts]))
    workloads = tuple(w for w in WORKLOADS if w.name in names or w.network in names)
    return workloads, tuple(p for p in parts if p in names or p in extras)


def with_curves(workloads: Sequence[Workload]) -> tuple[Workload, ...]:
    """Those of them that have a curve; all that have one where none of them has."""
    return tuple(w for w in workloads if w.name in _CURVES) or tuple(map(named, _CURVES))


def named(name: str) -> Workload:
    """The workload of this name, batch size included."""
    return next(w for w in WORKLOADS if w.name == name)
