"""The least time that a pass can take on a device, from its FLOP and its bytes; the published peaks of devices."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from modelspace.cost._anatomy import Anatomy
from modelspace.errors import unknown_name


@dataclass(frozen=True)
class Device:
    """How fast a device computes and reads at best.

    Attributes:
        name: What it is called.
        flops: FLOP a second by the type of the operands, dense; float32 at the TF32 rate where the device has one,
            which PyTorch uses for convolutions unless told otherwise.
        bandwidth: Bytes a second from its memory.
        memory: Bytes; None where it is the machine's.
        source: Where the figures are from.
    """

    name: str
    flops: Mapping[torch.dtype, float]
    bandwidth: float
    memory: int | None
    source: str

    def peak(self, dtype: torch.dtype | None) -> float:
        """FLOP a second of operands of a type; those of float32 for a type without a figure."""
        known = self.flops.get(dtype) if dtype is not None else None
        return known if known is not None else self.flops[torch.float32]


def _device(
    name: str, fp64: float, fp32: float, half: float, bandwidth: float, memory: int | None, source: str
) -> Device:
    """Rates in TFLOP/s, bandwidth in GB/s, memory in GB."""
    rates = {torch.float64: fp64, torch.float32: fp32, torch.float16: half, torch.bfloat16: half}
    return Device(
        name,
        {dtype: rate * 1e12 for dtype, rate in rates.items()},
        bandwidth * 1e9,
        None if memory is None else memory * 10**9,
        source,
    )


_CORES = "cores · highest clock · FLOP a cycle, and channels · transfers · 8 bytes, from {}"
DEVICES: Mapping[str, Device] = {
    device.name: device
    for device in (
        _device("a100", 19.5, 156, 312, 2039, 80, "NVIDIA A100 data sheet, SXM 80 GB"),
        _device("a100-40gb", 19.5, 156, 312, 1555, 40, "NVIDIA A100 data sheet, SXM 40 GB"),
        _device("h100", 67, 494.7, 989.4, 3350, 80, "NVIDIA H100 data sheet, SXM5, without sparsity"),
        _device("h100-pcie", 51, 378, 756, 2000, 80, "NVIDIA H100 data sheet, PCIe, without sparsity"),
        _device("h200", 67, 494.7, 989.4, 4800, 141, "NVIDIA H200 data sheet, SXM, without sparsity"),
        _device("v100", 7.8, 15.7, 125, 900, 32, "NVIDIA V100 data sheet, SXM2 32 GB"),
        _device("t4", 0.25, 8.1, 65, 320, 16, "NVIDIA T4 data sheet"),
        _device("l4", 0.48, 60, 121, 300, 24, "NVIDIA L4 data sheet, without sparsity"),
        _device("a10", 0.98, 62.5, 125, 600, 24, "NVIDIA A10 data sheet, without sparsity"),
        _device(
            "rtx4090", 1.3, 82.6, 330.3, 1008, 24, "NVIDIA Ada architecture paper, accumulating in float16"
        ),
        _device("rtx3090", 0.56, 35.6, 142, 936, 24, "NVIDIA Ampere GA102 paper, accumulating in float16"),
        _device(
            "mi300x", 163.4, 653.7, 1307.4, 5300, 192, "AMD Instinct MI300X data sheet, without sparsity"
        ),
        _device("m1", 2.6, 2.6, 2.6, 68.3, None, "Apple, announcement of the M1, November 2020"),
        _device("m1-max", 10.4, 10.4, 10.4, 400, None, "Apple, announcement of the M1 Max, October 2021"),
        _device("epyc-9654", 5.7, 11.4, 22.8, 460.8, None, _CORES.format("AMD's page of the EPYC 9654")),
        _device("xeon-8480", 6.8, 13.6, 436, 307.2, None, _CORES.format("Intel's page of the Xeon 8480+")),
    )
}


def device(name: str) -> Device:
    """A device by its name.

    Args:
        name: One of `DEVICES`, or ``"here"``, for this machine's CPU, measured in about a second.

    Raises:
        ModelspaceError: the name is unknown.

    Example:
        >>> device("a100").peak(torch.bfloat16), device("a100").bandwidth
        (312000000000000.0, 2039000000000.0)
    """
    if name == "here":
        return measured_here()
    if name.lower() not in DEVICES:
        raise unknown_name("device", name, [*DEVICES, "here"])
    return DEVICES[name.lower()]


_named = device  # where an argument has its name


def measured_here(seconds: float = 0.2) -> Device:
    """The CPU at hand, by its best product of two square matrices and its best copy.

    Its figures are what was reached, not what can be: a bound from them is a guide.

    Args:
        seconds: Spent on each of three types and on the copy.
    """
    rates = {}
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        a, b = (torch.ones(768, 768, dtype=dtype) for _ in range(2))
        out = torch.empty_like(a)
        rates[dtype] = 2 * 768**3 / _best(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), seconds)
    long = torch.ones(2**25)
    copy = torch.empty_like(long)
    bandwidth = 2 * long.nbytes / _best(lambda: copy.copy_(long), seconds)
    threads = torch.get_num_threads()
    source = f"measured here on {threads} thread{'s' * (threads > 1)}"
    return Device("here", {**rates, torch.float16: rates[torch.bfloat16]}, bandwidth, None, source)


def _best(run: Callable[[], object], seconds: float) -> float:
    """The least time of a run, over as many as there is time for."""
    run()
    best, end = float("inf"), time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        run()
        best = min(best, time.perf_counter() - start)
    return best


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
        >>> bound = time_bound(anatomy(nn.Linear(4096, 4096), (4096,), batch_size=4096), "a100", phase="forward")
        >>> round(1e3 * bound.compute_seconds, 2)  # milliseconds
        0.88

    Source:
        Williams, Waterman, Patterson, "Roofline: an insightful visual performance model for multicore
        architectures", Communications of the ACM 52(4), 2009.
    """
    place = _named(device) if isinstance(device, str) else device
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
