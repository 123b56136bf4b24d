"""The widest floating-point type of a device: what sums, scores and hyper-parameters are kept in."""

import torch


def widest(device: torch.device) -> torch.dtype:
    """float64; on Apple's GPUs, which have none, float32."""
    return torch.float32 if device.type == "mps" else torch.float64
