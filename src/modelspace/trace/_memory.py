"""The peak of live memory while a piece of code runs, by watching each storage be born and die."""

from collections.abc import Iterable

from jaxtyping import Shaped
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from modelspace.trace._ledger import Ledger


class PeakMemory(TorchDispatchMode):
    """Bytes of all live storages, and the most they came to, while this mode is entered.

    It sees what the dispatcher sees: every tensor an operation returns, gradients and what autograd keeps
    included, on any device, meta too. It does not see a kernel's own workspace (an LSTM's, a convolution's),
    nor the allocator's rounding. Cost: a few microseconds an operation.

    Args:
        tensors: What is live already: parameters, buffers, inputs. Tensors that share a storage count once.

    Example:
        >>> import torch
        >>> with PeakMemory([]) as memory:
        ...     x = torch.zeros(1000)
        ...     y = x + 1
        ...     del x
        >>> memory.live, memory.peak
        (4000, 8000)
    """

    def __init__(self, tensors: Iterable[Shaped[Tensor, "..."]] = ()):
        super().__init__()
        self._ledger = Ledger()
        for tensor in tensors:
            self._ledger.watch(tensor, "given", None)

    @property
    def live(self) -> int:
        """Bytes now."""
        return self._ledger.live

    @property
    def peak(self) -> int:
        """The most bytes at the end of any operation."""
        return self._ledger.peak

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._ledger.watch(leaf, "made", None)
        return result
