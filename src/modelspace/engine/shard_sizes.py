"""Which shard sizes a plan tries, by the device that computes them.

On a processor the best shard is one whose working set still fits the cache. A GPU takes as long for one small network
as for hundreds: what a step costs there is starting its kernels, until there are so many members that they fill it.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ShardSizes:
    """Numbers of members computed together.

    Attributes:
        tried: In the order in which they are tried.
        compiled: The largest of a compiled step, unless it is found to be faster.
        scored: Where members are only evaluated.
    """

    tried: tuple[int, ...]
    compiled: int
    scored: int


# The compiled step works on a smaller set than eager: its best shard is no larger.
ON_A_PROCESSOR = ShardSizes(tried=(16, 32, 8, 64, 4, 128, 256), compiled=32, scored=32)
_ON_A_GPU = ShardSizes(tried=(1024, 4096, 256, 16384, 64, 16), compiled=16384, scored=256)


def shard_sizes(device: torch.device) -> ShardSizes:
    """What to try on a device."""
    return ON_A_PROCESSOR if device.type == "cpu" else _ON_A_GPU
