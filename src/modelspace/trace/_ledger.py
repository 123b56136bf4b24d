"""The books of live memory: which storage was born when, by whom, of what kind, when it died; the peak of a block."""

import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_BY_ROW = (torch.sparse_csr, torch.sparse_bsr)
SPARSE = frozenset({torch.sparse_coo, *_BY_ROW, torch.sparse_csc, torch.sparse_bsc})


def stored(tensor: Shaped[Tensor, "..."]) -> tuple[Tensor, ...]:
    """The dense tensors that hold a tensor: itself; of a sparse one its indices, and its values last.

    Example:
        >>> [part.numel() for part in stored(torch.eye(3).to_sparse())]
        [6, 3]
    """
    if tensor.layout not in SPARSE:
        return (tensor,)
    if tensor.layout is torch.sparse_coo:
        return tensor._indices(), tensor._values()
    if tensor.layout in _BY_ROW:
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    return tensor.ccol_indices(), tensor.row_indices(), tensor.values()


@dataclass
class Block:
    """One storage's life.

    Attributes:
        bytes: Its size.
        kind: ``"parameters"``, ``"activations"`` … ; may be set after its birth, when its use is known.
        owner: The index of the module call that made it; None outside all of them.
        born: The entry of the journal at which it was born.
        died: The entry at which it died; None while it lives.
    """

    bytes: int
    kind: str
    owner: int | None
    born: int
    died: int | None = None


@dataclass
class Ledger:
    """Bytes of all live storages, the most they came to, and what was alive then.

    A storage is one entry whatever tensors share it. It sees what is handed to `watch`: not a kernel's own
    workspace, nor the allocator's rounding.

    Attributes:
        live: Bytes now.
        peak: The most bytes so far.
        phase: Set by whoever runs the pass.
        peak_phase: The phase of the peak.
        blocks: Every storage seen.

    Example:
        >>> ledger = Ledger()
        >>> x = torch.zeros(1000)
        >>> ledger.watch(x, "inputs", None)
        >>> del x
        >>> ledger.live, ledger.peak, ledger.at_peak()
        (0, 4000, Counter({'inputs': 4000}))
    """

    live: int = 0
    peak: int = 0
    phase: str = "forward"
    peak_phase: str = "forward"
    blocks: list[Block] = field(default_factory=list)
    _entry: int = 0
    _peak_entry: int = 0
    _alive: dict[int, Block] = field(default_factory=dict)

    def watch(self, tensor: Shaped[Tensor, "..."], kind: str, owner: int | None) -> None:
        """Enter a tensor's storage, or those of a sparse one, unless they are known."""
        for part in stored(tensor):
            storage = part.untyped_storage()
            key = storage._cdata
            if key in self._alive:
                continue
            block = self._alive[key] = self._born(storage.nbytes(), kind, owner)
            weakref.finalize(storage, self._release, key, block).atexit = False

    def hold(self, size: int, kind: str, owner: int | None = None) -> None:
        """Enter bytes that no tensor stands for and that stay to the end."""
        self._born(size, kind, owner)

    def block_of(self, tensor: Shaped[Tensor, "..."]) -> Block | None:
        """The entry of a live tensor's storage; of a sparse one's values."""
        return self._alive.get(stored(tensor)[-1].untyped_storage()._cdata)

    def alive(self) -> list[Block]:
        """What lives now."""
        return [block for block in self.blocks if block.died is None]

    def forget_peak(self) -> None:
        """Count the peak from here on."""
        self.peak, self.peak_phase, self._peak_entry = self.live, self.phase, self._entry

    def at_peak(self, key: Callable[[Block], object] = lambda block: block.kind) -> Counter:
        """Bytes alive at the peak, by kind or by another key of a block."""
        found: Counter = Counter()
        for block in self.blocks:
            if block.born <= self._peak_entry and (block.died is None or block.died > self._peak_entry):
                found[key(block)] += block.bytes
        return found

    def _born(self, size: int, kind: str, owner: int | None) -> Block:
        self._entry += 1
        block = Block(size, kind, owner, self._entry)
        self.blocks.append(block)
        self.live += size
        if self.live > self.peak:
            self.peak, self.peak_phase, self._peak_entry = self.live, self.phase, self._entry
        return block

    def _release(self, key: int, block: Block) -> None:
        self._entry += 1
        block.died = self._entry
        self._alive.pop(key, None)
        self.live -= block.bytes


class PeakMemory(TorchDispatchMode):
    """Bytes of all live storages, and the most they came to, while this mode is entered.

    It sees what the dispatcher sees: every tensor an operation returns, gradients and what autograd keeps
    included, on any device, meta too. It does not see a kernel's own workspace (an LSTM's, a convolution's),
    nor the allocator's rounding. Cost: a few microseconds an operation.

    Args:
        tensors: What is live already: parameters, buffers, inputs. Tensors that share a storage count once.

    Example:
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
