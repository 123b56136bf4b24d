"""Pooling of all members' planes, see ``planes``.

Measured on one CPU core, K = 8, a net of two convolutions (16 and 32 filters on 8×8), each with a max pool, and a
linear layer: the whole training step is at batch 32 1.5 times as fast as with ``vmap``'s rule, compiled 2.2 times; at
batch 128 1.7 and 1.8 times. A chain of ``torch.where`` over the windows was 0.9 and 1.35 times as fast. The other
pools gain the same in eager mode and nothing compiled; those that lose either way are left to ``vmap``: averages of
three axes and adaptive pools of three (0.95 eager), adaptive averages of two (0.7 compiled).
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from modelspace.engine.lowerings.planes import plane_by_plane

_nn: Any = torch._C._nn  # pyright: ignore[reportAttributeAccessIssue]
_SPATIAL: Mapping[int, tuple[Callable[..., Any], ...]] = {
    1: (
        torch.max_pool1d,
        torch.max_pool1d_with_indices,
        torch.avg_pool1d,
        torch.adaptive_avg_pool1d,
        torch.adaptive_max_pool1d,
    ),
    2: (torch.max_pool2d, _nn.max_pool2d_with_indices, _nn.avg_pool2d, _nn.adaptive_max_pool2d),
    3: (torch.max_pool3d, _nn.max_pool3d_with_indices),
}
TABLE: Mapping[Callable[..., Any], Callable[..., Any]] = {
    function: plane_by_plane(function, spatial)
    for spatial, functions in _SPATIAL.items()
    for function in functions
}
