"""Batches that a ``DataLoader`` makes, for data that memory has no room for: each is read when it is trained on.

The loader stays as it is: its order, sampler, batch size, workers and collate function. What it draws at random is
made a function of the data seed and the epoch: an epoch that is read again, for the next shard or where a run goes
on, is the same epoch.
"""

from collections.abc import Generator, Iterator, Sized
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader

from modelspace.data.check import check_data, differences, raise_problems, split_problems
from modelspace.data.convert import split_of
from modelspace.data.dataset import Data, Split
from modelspace.data.materialise import plain
from modelspace.data.randomness import Resumed, generator
from modelspace.data.sources import load
from modelspace.errors import ModelspaceError, told
from modelspace.nest import Nest, mapped, mapped_together, take, tensors
from modelspace.progress import progress

_EPOCH, _END = (
    4,
    object(),
)  # within a seed's numbers: order, noise, bootstrap and samples have the keys before


def stream(
    train: DataLoader,
    validation: Any = None,
    test: Any = None,
    *,
    batches: int | None = None,
    name: str = "stream",
) -> Data:
    """Data that are read as they are trained on, from a loader, once an epoch of each shard.

    ``fit`` takes the loader's batches as they come, in its order and of its size, an incomplete last one too (unless
    it has ``drop_last``). Before each epoch PyTorch, NumPy and Python, within the loader alone, its generator and its
    workers are seeded with ``epoch_seed(data_seed, epoch)``, and ``set_epoch`` of its sampler and its data set is
    called where there is one; so every shard sees the same batches, and a run that goes on does too. Every batch is
    checked: parts, shapes, types, NaN.

    What takes samples at random (columns ``fold``, ``bootstrap``, ``samples``, ``task``, ``data_seed``,
    ``label_noise``) is refused, and so are settings of batches, which are the loader's.

    Args:
        train: A loader, of a map-style or an iterable-style data set. Two batches of it are read now.
        validation: A loader, whose inputs are read a piece at a time, once an epoch of each shard; its labels are
            read now and kept. Or what ``load`` takes, in memory or mapped; None for none.
        test: The same.
        batches: Batches of an epoch. Where None, the loader's length; where it has none, it is read through once and
            counted. An endless one needs a number.
        name: What reports call the data.

    Returns:
        The data; ``train`` holds the first two batches, for checks, and reads the others.

    Raises:
        ModelspaceError: the loader is none, has no batches, can't be read again as it was, or its batches are not
            alike.

    >>> import torch
    >>> from torch.utils.data import DataLoader, TensorDataset
    >>> digits = TensorDataset(torch.rand(100, 8), torch.arange(100) % 10)
    >>> stream(DataLoader(digits, batch_size=32, shuffle=True), (torch.rand(20, 8), torch.arange(20) % 10))
    Data('stream': 4 batches of 32 train, 20 validation, 0 test; inputs 8 float32, 10 classes)
    """
    begun = Streamed.of(train, f"{name}, train", batches)
    held = {"validation": validation, "test": test}
    parts = {part: _part(source, f"{name}, {part}", begun) for part, source in held.items()}
    data = Data(name, begun, parts["validation"], parts["test"])
    check_data(data, rows=False)
    return data


def epoch_seed(data_seed: int, epoch: int) -> int:
    """Return what a loader's random numbers are seeded with before an epoch, counted from 0.

    >>> epoch_seed(0, 0) == epoch_seed(0, 0) != epoch_seed(0, 1)
    True
    """
    return int(generator(data_seed, _EPOCH, epoch).integers(2**63))


@dataclass(frozen=True, eq=False, repr=False)
class Streamed(Split):
    """A split of which the first two batches are held, for checks; all of it is read from a loader.

    Attributes:
        loader: The loader.
        name: What errors call it.
        batches: Batches of an epoch.
        batch_size: Samples of the first batch, and the most of any.
    """

    loader: DataLoader | None = None
    name: str = "stream"
    batches: int = 0
    batch_size: int = 0

    @classmethod
    def of(cls, loader: Any, name: str, batches: int | None) -> "Streamed":
        """Read the first two batches of a loader, and count how many there are."""
        if not isinstance(loader, DataLoader):
            raise ModelspaceError(
                f"data '{name}' is a {type(loader).__name__}: a torch.utils.data.DataLoader is expected; "
                "modelspace.data.load takes other sources"
            )
        if loader.persistent_workers:
            raise ModelspaceError(
                f"data '{name}': persistent_workers keep their random streams from epoch to epoch, so that none "
                "could be read again: give persistent_workers=False"
            )
        if batches is not None and batches < 1:
            raise ModelspaceError(f"data '{name}': batches={batches}: give at least 1")
        first = _first(loader, name)
        length = _length(loader) if batches is None else batches
        if length is None:
            with progress(f"counting the batches of {name}", 0, "batches") as advance:
                length = sum(advance(1) is None for _ in _read(loader, name, 0, 0, first[0]))
        inputs, labels = (
            mapped_together(lambda *x: torch.cat(x), *(getattr(each, kind) for each in first))
            for kind in ("inputs", "labels")
        )
        form, size = first[0].form, len(first[0])
        return cls(inputs, labels, form, loader=loader, name=name, batches=length, batch_size=size)

    def __repr__(self) -> str:
        return f"Streamed({self.counted}: {super().__repr__()})"

    def __reduce__(self) -> Any:
        raise _stays()

    @property
    def whole(self) -> bool:
        """Whether all of its samples are there to be indexed."""
        return False

    @property
    def counted(self) -> str:
        """How much there is, in words."""
        return f"{self.batches:,} batches of {self.batch_size}"

    @property
    def total(self) -> int:
        """Samples of an epoch; the most that they may be where the loader does not say."""
        most = self.batches * self.batch_size
        loader = self.loader
        if loader is None or loader.batch_sampler is None or not isinstance(loader.sampler, Sized):
            return most  # without a batch sampler what is sampled are whole batches
        return min(most, len(loader.sampler))

    def read(self, data_seed: int, epoch: int, begin: int = 0) -> Iterator[Split]:
        """Yield the batches of an epoch.

        Args:
            data_seed: What their random numbers are a function of, with the epoch.
            epoch: Counted from 0.
            begin: Batches that are passed over.

        Raises:
            ModelspaceError: a batch can't be read, is unlike the first, or there are fewer than there should be.
        """
        assert self.loader is not None
        first = self.take(slice(self.batch_size))
        yield from _read(self.loader, self.name, data_seed, epoch, first, begin, self.batches)


def _read(
    loader: DataLoader,
    name: str,
    data_seed: int,
    epoch: int,
    first: Split | None = None,
    begin: int = 0,
    batches: int | None = None,
) -> Generator[Split, None, None]:
    """The batches of an epoch; to the loader's end where it is not said how many, unchecked without a first."""
    seed = epoch_seed(data_seed, epoch)
    owners = [loader, loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None)]
    for owner in (*owners, loader.dataset):
        if isinstance(own := getattr(owner, "generator", None), torch.Generator):
            own.manual_seed(seed)
        if callable(told_so := getattr(owner, "set_epoch", None)):
            told_so(epoch)
    streams = Resumed(seed)
    with streams:
        iterator = iter(loader)
    for i in count() if batches is None else range(batches):
        try:
            with streams:
                batch = next(iterator, _END)
        except Exception as error:
            raise ModelspaceError(
                f"data '{name}': batch {i} of epoch {epoch} can't be read: {told(error)}"
            ) from error
        if batch is _END and batches is None:
            return
        if batch is _END:
            raise ModelspaceError(
                f"data '{name}' ended after {i} batches in epoch {epoch}, of {batches} that it is said to have: give "
                "batches="
            )
        if i >= begin:
            yield _checked(batch, name, i, first)


def _checked(batch: Any, name: str, number: int, first: Split | None) -> Split:
    where = f"batch {number}"
    split = split_of(plain(batch), *(f"data '{name}': {kind} of {where}" for kind in ("inputs", "labels")))
    problems = split_problems(split, where)
    if first is not None:
        problems += differences(split, where, first, "the first batch")
        if len(split) > len(first):
            problems.append(
                f"{where} has {len(split)} samples, the first {len(first)}: it may have fewer alone"
            )
    raise_problems(name, problems)
    return split


def _first(loader: DataLoader, name: str) -> list[Split]:
    """The first two batches, or the only one, of which the first is read twice."""
    once = _read(loader, name, 0, 0)
    first = next(once, None)
    once.close()
    reading = _read(loader, name, 0, 0)
    again, second = next(reading, None), next(reading, None)
    reading.close()
    if first is None or again is None:
        raise ModelspaceError(f"data '{name}' has no batches")
    leaves = [tensors((each.inputs, each.labels)) for each in (first, again)]
    if len(leaves[0]) != len(leaves[1]) or not all(map(_equal, *leaves)):
        raise ModelspaceError(
            f"data '{name}': its first batch is another one when it is read again from the same seeds: a sampler or "
            "a data set that draws from a generator of its own has to begin anew at each epoch, by set_epoch(epoch)"
        )
    raise_problems(name, [] if second is None else differences(second, "batch 1", first, "the first batch"))
    return [first] if second is None else [first, second]


def _length(loader: DataLoader) -> int | None:
    try:
        return len(loader)
    except TypeError:
        return None


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def _stays() -> ModelspaceError:
    return ModelspaceError("a stream is read where it was opened: give runner='local'")


def _part(source: Any, name: str, like: Split) -> Split:
    """A split to be scored on, of whatever it is."""
    if source is None:
        return like.take(slice(0))
    if isinstance(source, DataLoader):
        return _Tape(Streamed.of(source, name, None)).split
    return source if isinstance(source, Split) else load(source, splits=(1.0, 0.0, 0.0), name=name).train


class _Tape:
    """The samples of a loader by their numbers, read from the start on: forwards at no cost, back from the start."""

    def __init__(self, source: Streamed):
        self._source, self._first = source, source.take(slice(source.batch_size))
        self._reading: Iterator[Split] | None = None
        self._ends: list[int] = []  # of the batches
        self._at = 0  # the batch that was read last
        self._batch = self._first
        most = source.batches * source.batch_size
        # In one place: small tensors kept among batches that go would hold the heap between them.
        labels = mapped(lambda part: part.new_empty((most, *part.shape[1:])), self._first.labels)
        with progress(f"reading {source.name}", source.batches, "batches") as advance:
            for batch in source.read(0, 0):
                begin = self._ends[-1] if self._ends else 0
                self._ends.append(begin + len(batch))
                own = take(labels, slice(begin, begin + len(batch)))
                mapped_together(Tensor.copy_, own, batch.labels)
                advance(1)
        self._labels: Nest = take(labels, slice(len(self)))
        self._asked, self._found = torch.zeros(0, dtype=torch.int64), self._first.take(slice(0)).inputs

    @property
    def split(self) -> Split:
        """All samples, their inputs unread."""
        leaves, structure = pytree.tree_flatten(self._first.inputs)
        inputs = pytree.tree_unflatten([Rows(self, i, leaf) for i, leaf in enumerate(leaves)], structure)
        return Split(inputs, self._labels, self._first.form)

    def __len__(self) -> int:
        return self._ends[-1]

    def take(self, rows: Int64[Tensor, "row"]) -> Nest:
        """Return the inputs of some samples; those asked for last, which another part of them has read, at once."""
        if torch.equal(rows, self._asked):
            return self._found
        order = rows.argsort(stable=True)
        wanted, parts = rows[order], [take(self._first.inputs, slice(0))]
        for begin, batch in self._batches(wanted):
            low, high = torch.searchsorted(wanted, torch.tensor([begin, begin + len(batch)])).tolist()
            parts.append(take(batch.inputs, wanted[low:high] - begin))
        whole = mapped_together(lambda *x: torch.cat(x), *parts)
        self._asked, self._found = rows, take(whole, order.argsort())
        return self._found

    def _batches(self, wanted: Tensor) -> Iterator[tuple[int, Split]]:
        """Where a batch begins, and it, of the batches that hold rows from the first to the last of these."""
        if not len(wanted):
            return
        low, high = int(wanted[0]), int(wanted[-1])
        if high < self._ends[0]:
            yield 0, self._first
            return
        begins = [0, *self._ends]
        if self._reading is None or low < begins[self._at]:
            self._reading, self._at = self._source.read(0, 0), -1
        while True:
            if self._at >= 0 and low < self._ends[self._at]:
                yield begins[self._at], self._batch
            if self._at >= 0 and high < self._ends[self._at]:
                break
            self._go_on(begins)
        if self._at == len(self._ends) - 1:
            self._reading = None  # ends the loader's workers

    def _go_on(self, begins: list[int]) -> None:
        """Read the next batch."""
        reading, self._reading = self._reading, None  # what fails is not gone on with
        assert reading is not None
        self._at += 1
        self._batch = next(reading)
        own = take(self._labels, slice(begins[self._at], self._ends[self._at]))
        if not all(map(_equal, tensors(own), tensors(self._batch.labels))):
            raise ModelspaceError(
                f"data '{self._source.name}': the labels of batch {self._at} are others when it is read again: its "
                "samples have to come in one order"
            )
        self._reading = reading


class Rows(Tensor):
    """A part of a loader's samples, of which those are read that are indexed, as an ordinary tensor.

    What is no index reads all of it.
    """

    _tape: _Tape
    _leaf: int

    @staticmethod
    def __new__(cls, tape: _Tape, leaf: int, like: Tensor) -> "Rows":
        """Make it of the loader's part of this number; ``like`` says of what shape, type and device."""
        shape = (len(tape), *like.shape[1:])
        made = Tensor._make_wrapper_subclass(cls, shape, dtype=like.dtype, device=like.device)  # pyright: ignore
        made._tape, made._leaf = tape, leaf
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute with all of the rows."""
        whole = pytree.tree_map(
            lambda part: part[:] if isinstance(part, Rows) else part, (args, kwargs or {})
        )
        return function(*whole[0], **whole[1])

    def __getitem__(self, index: Any) -> Tensor:
        """Read some rows."""
        index, *inner = index if isinstance(index, tuple) else (index,)
        if isinstance(index, slice):
            rows = torch.arange(*index.indices(len(self)))
        else:
            rows = torch.arange(len(self))[index.cpu() if isinstance(index, Tensor) else index]
        found = tensors(self._tape.take(rows.reshape(-1)))[self._leaf]
        found = found.reshape(*rows.shape, *self.shape[1:]).to(self.device, self.dtype)
        return found[(*(slice(None) for _ in rows.shape), *inner)] if inner else found

    def __repr__(self, **_: Any) -> str:  # pyright: ignore
        return f"Rows({list(self.shape)}, {self.dtype}, unread)"

    def __reduce_ex__(self, proto: Any) -> Any:
        raise _stays()

    def detach(self) -> "Rows":
        """Return the same: nothing here is differentiated."""
        return self

    def to(self, *args: Any, **kwargs: Any) -> "Rows":
        """Return the same rows, read as another type or onto another device."""
        return Rows(
            self._tape,
            self._leaf,
            torch.empty(0, *self.shape[1:], dtype=self.dtype, device=self.device).to(*args, **kwargs),
        )
