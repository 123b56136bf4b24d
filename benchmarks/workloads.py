"""What is timed, how large, and what it has to reach."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks.forecasters import windows
from benchmarks.peers import PEERS
from benchmarks.plain import NETWORKS, OBJECTIVES, Batch, cross_entropy
from modelspace import ModelSpace, data
from modelspace.data import Data, epoch_indices, of_splits, of_tasks
from modelspace.errors import unknown_name
from modelspace.nest import arguments

_SERIES, _BATCHES = 1024, 64


@dataclass
class Workload:
    """A network, its data and a batch size, with what it has to reach."""

    network: str
    shape: tuple[
        int, ...
    ]  # the 64 pixels of scikit-learn's digits as the network reads them, or digits-7x7; or none
    batch: int
    loop: float = 1  # times the plain loop; 1 means never slower
    limit: float | None = None  # fraction of the machine's limit
    jax: float | None = None  # times JAX
    gpu: float = 1  # times the plain loop on a GPU, where nothing else is asked

    def __post_init__(self):
        self.name, self.architecture = f"{self.network}-{self.batch}", NETWORKS[self.network]
        objective = OBJECTIVES[self.network]
        self.fit: dict[str, Any] = {} if objective is cross_entropy else {"objective": objective}

    def targets(self, device: str) -> dict[str, float | None]:
        """What it has to reach on a device."""
        asked = (self.loop, self.limit, self.jax) if device == "cpu" else (self.gpu, None, None)
        return dict(zip(("loop", "limit", "jax"), asked, strict=True))

    def space(self) -> ModelSpace:
        """Its space."""
        return ModelSpace(self.architecture, input_shape=self.shape or None)

    def data(self) -> Data:
        """Its data, the same for every batch size."""
        if not self.shape:
            return _DATA[self.network]()
        if self.shape == (3, 7, 7):
            return data.digits_7x7()
        parts = {n: (p.inputs.reshape(-1, *self.shape), p.labels) for n, p in data.digits().splits.items()}
        return of_splits(**parts, name="digits")

    def batches(self, data: Data, epoch: int = 0, device: str = "cpu") -> list[Batch]:
        """One epoch's batches, gathered, on a device; of an epoch of many, the first."""
        parts = [part.to(device) for part in (*arguments(data.train.inputs)[0], data.train.labels)]
        order = epoch_indices(len(data.train), self.batch, seed=0, epoch=epoch)
        return [tuple(part[index] for part in parts) for index in order[:_BATCHES].to(device)]


def _points() -> Data:
    """Points (t, x) of [0, 1] × [−1, 1], with −sin πx."""
    points = torch.rand(1024, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 2])
    points -= torch.tensor([0, 1])
    return data.load((points, -(torch.pi * points[:, 1:]).sin()), splits=(1, 0, 0), name="points")


def _tokens() -> Data:
    """Walks of 6 to 16 tokens with a step each, padded; of those that are hidden, about one in seven, the label."""
    g = torch.Generator().manual_seed(0)
    first, step = torch.randint(18, (2, 1024, 1), generator=g)
    tokens = (first + step * torch.arange(16)) % 18 + 2
    padding = torch.arange(16) >= torch.randint(6, 17, (1024, 1), generator=g)
    hidden = (torch.rand(tokens.shape, generator=g) < 0.15) & ~padding
    inputs = torch.where(hidden, 1, tokens).masked_fill(padding, 0)
    labels = torch.where(hidden, tokens, -100)
    return data.load(((inputs, padding), labels), splits=(1, 0, 0), name="tokens")


def _series() -> Data:
    return of_tasks(map(windows, range(_SERIES)), ordered=True, name="series")


_DATA = {"pinn": _points, "masked": _tokens, "forecaster": _series}
_ALL = (
    Workload("dummynet", (3, 7, 7), 32, loop=20, limit=0.3, jax=1.5, gpu=100),
    Workload("dummynet", (3, 7, 7), 128),
    Workload("mlp", (64,), 32, loop=18, limit=0.4, jax=1.3, gpu=100),
    Workload("mlp", (64,), 128, loop=7, limit=0.6, jax=1.2),
    Workload("cnn", (1, 8, 8), 32, loop=4, limit=0.4, jax=3),
    Workload("cnn", (1, 8, 8), 128, loop=1.8, limit=0.4, jax=2),
    Workload("residual", (1, 8, 8), 32, loop=4, jax=1),
    Workload("encoder", (8, 8), 32, loop=4, jax=1),
    Workload("lstm", (8, 8), 32, loop=2, jax=1),
    Workload("lora", (64,), 32),
    Workload("vae", (64,), 32, loop=10, jax=1),
    Workload("pinn", (), 128, loop=4),
    Workload("masked", (), 32, jax=1),
    Workload("forecaster", (), 16, loop=12, jax=1),
)
WORKLOADS = {workload.name: workload for workload in _ALL}
FITS = tuple(name for name, w in WORKLOADS.items() if w.batch == 32 and w.shape and not w.fit)
CURVES = ("dummynet-32", "mlp-32", "cnn-32")
PARTS = ("fit", "small", "scores", "products", "curvature", "landscape", "scaling")
EXTRAS = ("curve", "ten-thousand")


def chosen(names: Sequence[str], extras: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """The workloads and the other parts of a run, in the tables' order.

    Names are of workloads (``"mlp-32"``), networks (``"mlp"``: every batch size) or parts (``"scaling"``); none are
    everything but the extras.

    Raises:
        ModelspaceError: a name is none of these.
    """
    parts = (*PARTS, *EXTRAS)
    if not names:
        return list(WORKLOADS), [p for p in parts if p in (*PARTS, *extras)]
    known = dict.fromkeys([name for w in _ALL for name in (w.name, w.network)] + [*parts])
    for name in names:
        if name not in known:
            raise unknown_name("benchmark", name, known)
    workloads = [w.name for w in _ALL if {w.name, w.network} & {*names}]
    return workloads, [p for p in parts if p in (*names, *extras)]


@dataclass(frozen=True)
class Settings:
    """How large the measurements are."""

    device: str = "cpu"  # where every side computes
    repeats: int = 5  # turns of each side
    members: int = 1024  # K of the step benchmarks
    run_steps: int = 10_000  # a member's updates in the run that is planned for: compiling is repaid
    turn_seconds: float = 0.8  # about how long a side's turn goes on
    peers: tuple[str, ...] = tuple(PEERS)  # who takes turns beside loop and population
    ensemble_members: int = 256  # K of torch.func: all of them at once
    jax_members: tuple[int, ...] = (2, 8, 32, 128, 512)  # tried from small to large, the best is kept
    member_steps: int = 660  # updates of one member's whole run, where each has a process of its own
    fit_members: int = 64
    fit_epochs: int = 20
    small_members: tuple[int, ...] = (1, 2, 4)
    small_epochs: int = 20
    scaling_members: tuple[int, ...] = (64, 256, 1024, 4096)
    scaling_repeats: int = 3  # timed fits for each, at most `repeats`
    scaling_compiled: bool = True
    curve_members: tuple[int, ...] = (1, 4, 16, 64, 256, 1024, 4096)
    curve_epochs: int = 20
    study_members: int = 10_000
    study_epochs: int = 20


QUICK = Settings(
    repeats=2, members=8, run_steps=1, turn_seconds=0.02, peers=(), ensemble_members=4, jax_members=(4,),
    member_steps=20, fit_members=4, fit_epochs=1, small_members=(1, 2), small_epochs=1, scaling_members=(4, 8),
    scaling_repeats=1, scaling_compiled=False, curve_members=(1, 4), curve_epochs=1, study_members=16,
    study_epochs=1,
)  # fmt: skip


def settings_on(device: str, *, quick: bool = False) -> Settings:
    """The settings on a device: a GPU is filled by more members than a CPU, and its compiling repaid later."""
    if quick or device == "cpu":
        return replace(QUICK if quick else Settings(), device=device)
    large = {"ensemble_members": 1024, "jax_members": (512, 2048)}
    return Settings(device, run_steps=50_000, scaling_members=(64, 256, 1024, 4096, 16384), **large)
