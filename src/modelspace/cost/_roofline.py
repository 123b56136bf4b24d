"""The least time that a pass can take on a device, from its FLOP and its bytes."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from modelspace.cost._devices import Device
from modelspace.cost._devices import device as named
from modelspace.cost._record import Anatomy


@dataclass(frozen=True)
class TimeBound:
    """Lower bounds on the time of a pass: no step is faster, and most are slower by far.

    Attributes:
        seconds: Operations one after another, each with its operands from memory and its result to memory:
            Σ max(FLOP / peak, bytes / bandwidth). A compiler that fuses operations, or a cache that holds their
            operands, may stay below it.
        compute_seconds: Σ FLOP / peak, which nothing stays below.
        traffic_seconds: Σ bytes / bandwidth.
        traffic_share: The part of ``seconds`` in operations that wait for memory.
        by_operation: ``seconds`` by the name of the operation, longest first.
        by_module: ``seconds`` by the qualified name of the module, longest first; None outside all.
        device: The device's name.
        source: Where its figures are from.
    """

    seconds: float
    compute_seconds: float
    traffic_seconds: float
    traffic_share: float
    by_operation: Mapping[str, float]
    by_module: Mapping[str | None, float]
    device: str
    source: str


def time_bound(
    record: Anatomy, device: Device | str, *, phase: Literal["forward", "backward", "both"] = "both"
) -> TimeBound:
    """The roofline's lower bound on the time of a pass.

    t ≥ Σ_operations max(FLOP / peak, bytes / bandwidth)

    Not an estimate of the time: launches, the host, small operands and kernels below their peak come on top, and
    the elementwise arithmetic is in it by its bytes alone.

    Args:
        record: The pass.
        device: A `Device`, its name, or ``"here"`` for this machine, measured.
        phase: Which part of the pass; what checkpointing computes again belongs to the backward.

    Raises:
        ModelspaceError: the device is unknown.

    Example:
        >>> from modelspace.cost import anatomy
        >>> bound = time_bound(anatomy(nn.Linear(4096, 4096), (4096,), batch=4096), "a100", phase="forward")
        >>> round(1e3 * bound.compute_seconds, 2)  # milliseconds
        0.88

    Source:
        Williams, Waterman, Patterson, "Roofline: an insightful visual performance model for multicore
        architectures", Communications of the ACM 52(4), 2009.
    """
    place = named(device) if isinstance(device, str) else device
    compute = traffic = waiting = 0.0
    by_operation: Counter[str] = Counter()
    by_module: Counter[str | None] = Counter()
    for operation in record.operations:
        if phase != "both" and (operation.phase == "forward") != (phase == "forward"):
            continue
        computing = operation.times * operation.flops / place.peak(operation.dtype)
        moving = operation.times * operation.bytes / place.bandwidth
        compute, traffic = compute + computing, traffic + moving
        waiting += moving if moving > computing else 0.0
        by_operation[operation.name] += max(computing, moving)  # pyright: ignore[reportArgumentType]
        name = None if operation.call is None else record.calls[operation.call].name
        by_module[name] += max(computing, moving)  # pyright: ignore[reportArgumentType]
    seconds = float(sum(by_operation.values()))
    return TimeBound(
        seconds=seconds,
        compute_seconds=compute,
        traffic_seconds=traffic,
        traffic_share=waiting / seconds if seconds else 0.0,
        by_operation=dict(by_operation.most_common()),
        by_module=dict(by_module.most_common()),
        device=place.name,
        source=place.source,
    )
