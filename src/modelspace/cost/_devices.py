"""Published peaks of devices, and the peak of the machine at hand, measured."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

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
