"""The peak of live memory while a piece of code runs, by watching each storage be born and die."""

import weakref
from collections.abc import Iterable

from jaxtyping import Shaped
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):
    """Bytes of all live storages, and the most they came to, while this mode is entered.

    It sees what the dispatcher sees: every tensor an operation returns, gradients and what autograd keeps
    included, on any device, meta too. It does not see a kernel's own workspace (an LSTM's, a convolution's),
    nor the allocator's rounding. Cost: a few microseconds an operation.

    Args:
        tensors: What is live already: parameters, buffers, inputs. Tensors that share a storage count once.

    Attributes:
        live: Bytes now.
        peak: The most bytes at the end of any operation.

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
        self.live = 0
        self.peak = 0
        self._bytes: dict[int, int] = {}
        for tensor in tensors:
            self._watch(tensor)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._watch(leaf)
        return result

    def _watch(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._bytes:
            return
        self._bytes[key] = storage.nbytes()
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._release, key).atexit = False

    def _release(self, key: int) -> None:
        self.live -= self._bytes.pop(key)
