"""The device that a side computes on, by its name (``"cpu"``, ``"cuda:0"``); it needs PyTorch and nothing else."""

import torch


def is_gpu(device: str) -> bool:
    """Whether it is anything but the processor."""
    return torch.device(device).type != "cpu"


def use(device: str) -> None:
    """Make it this process's own, where there may be several."""
    if torch.device(device).type == "cuda":
        torch.cuda.set_device(device)


def synchronise(device: str) -> None:
    """Return when everything that was started there is done; on a CPU it is done already."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize(device)
    elif kind == "mps":
        torch.mps.synchronize()
