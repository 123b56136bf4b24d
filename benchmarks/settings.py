"""How large the measurements are."""

from dataclasses import dataclass, replace

from benchmarks.device import is_gpu
from benchmarks.peers import PEERS


@dataclass(frozen=True)
class Settings:
    """How large the measurements are.

    Attributes:
        device: Where every side computes.
        repeats: Turns of each side.
        members: K of the step benchmarks.
        run_steps: Updates a member of the run that their plan is chosen for: so many that compiling, and
            trying the neighbouring shard sizes, is repaid.
        turn_seconds: About how long a side's turn goes on.
        peers: Who takes turns beside loop and population.
        ensemble_members: K of ``torch.func``: all of them at once.
        jax_members: The K that JAX tries, from small to large, to keep its best.
        member_steps: Updates of one member's whole run, where each has a process of its own.
        fit_members: K of the whole fits.
        fit_epochs: Their epochs.
        scaling_members: Every K of the scaling.
        scaling_repeats: Timed fits for each, at most ``repeats``.
        scaling_compiled: Whether those are compiled.
        curve_members: Every K of the curves.
        curve_epochs: Of each fit.
        study_members: Seeds of the seed study.
        study_epochs: Its epochs.
    """

    device: str = "cpu"
    repeats: int = 5
    members: int = 1024
    run_steps: int = 10_000
    turn_seconds: float = 0.8
    peers: tuple[str, ...] = tuple(PEERS)
    ensemble_members: int = 256
    jax_members: tuple[int, ...] = (2, 8, 32, 128, 512)
    member_steps: int = 660
    fit_members: int = 64
    fit_epochs: int = 20
    scaling_members: tuple[int, ...] = (64, 256, 1024, 4096)
    scaling_repeats: int = 3
    scaling_compiled: bool = True
    curve_members: tuple[int, ...] = (1, 4, 16, 64, 256, 1024, 4096)
    curve_epochs: int = 20
    study_members: int = 10_000
    study_epochs: int = 20


def for_device(settings: Settings, device: str) -> Settings:
    """The settings on a device: a GPU is filled by more members than a CPU."""
    settings = replace(settings, device=device)
    if not is_gpu(device):
        return settings
    return replace(
        settings,
        ensemble_members=1024,
        jax_members=(512, 2048),
        run_steps=50_000,  # so many that compiling is repaid there too
        scaling_members=(64, 256, 1024, 4096, 16384),
    )


QUICK = Settings(
    repeats=2,
    members=8,
    run_steps=1,
    turn_seconds=0.02,
    peers=(),
    ensemble_members=4,
    jax_members=(4,),
    member_steps=20,
    fit_members=4,
    fit_epochs=1,
    scaling_members=(4, 8),
    scaling_repeats=1,
    scaling_compiled=False,
    curve_members=(1, 4),
    curve_epochs=1,
    study_members=16,
    study_epochs=1,
)
