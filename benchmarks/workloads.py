"""What is timed: a network, its data and a batch size, with how much faster than the plain loop it has to be."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from benchmarks import networks
from modelspace import ModelSpace, data
from modelspace.data import Data, of_splits
from modelspace.errors import unknown_name


@dataclass(frozen=True)
class Workload:
    """One line of the table.

    Attributes:
        network: The name of the network.
        architecture: Its class.
        shape: One sample's shape: the 64 pixels of scikit-learn's digits as the network reads them, or
            (3, 7, 7) for ``digits-7x7``.
        batch: Samples a step.
        target: How many times as fast as the plain loop it has to be; 1 means never slower.
        optional: Timed with ``--all`` or by name only.
    """

    network: str
    architecture: type[nn.Module]
    shape: tuple[int, ...]
    batch: int
    target: float = 1.0
    optional: bool = False

    @property
    def name(self) -> str:
        """``dummynet-32``."""
        return f"{self.network}-{self.batch}"

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
    Workload("dummynet", networks.DummyNet, (3, 7, 7), 32, target=15),
    Workload("dummynet", networks.DummyNet, (3, 7, 7), 128),
    Workload("mlp", networks.MLP, (64,), 32, target=15),
    Workload("mlp", networks.MLP, (64,), 128),
    Workload("cnn", networks.CNN, (1, 8, 8), 32),
    Workload("cnn", networks.CNN, (1, 8, 8), 128),
    Workload("residual", networks.Residual, (1, 8, 8), 32, optional=True),
    Workload("encoder", networks.Encoder, (8, 8), 32, optional=True),
    Workload("lstm", networks.Recurrent, (8, 8), 32, optional=True),
)
PARTS = ("fit", "scaling")


def chosen(names: Sequence[str], optional: bool) -> tuple[tuple[Workload, ...], tuple[str, ...]]:
    """The workloads and the other parts of a run.

    Args:
        names: Of workloads (``"mlp-32"``), networks (``"mlp"``: every batch size) or parts (``"scaling"``);
            none for all that are not optional.
        optional: Whether the optional ones belong to all.

    Returns:
        Workloads in the table's order, and parts.

    Raises:
        ModelspaceError: a name is none of these.
    """
    if not names:
        return tuple(w for w in WORKLOADS if optional or not w.optional), PARTS
    known = [n for w in WORKLOADS for n in (w.name, w.network)]
    for name in names:
        if name not in known and name not in PARTS:
            raise unknown_name("benchmark", name, dict.fromkeys([*known, *PARTS]))
    workloads = tuple(w for w in WORKLOADS if w.name in names or w.network in names)
    return workloads, tuple(p for p in PARTS if p in names)


def named(name: str) -> Workload:
    """The workload of this name, batch size included."""
    return next(w for w in WORKLOADS if w.name == name)
