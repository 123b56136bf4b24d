"""``ModelSpace``, an architecture with fixed hyper-parameters, H = { f_p : p ∈ ℝⁿ }; ``Population``, K of its points.

They are one page, since each names the other: a space samples populations, and a population is of a space.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from html import escape
from math import prod
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from modelspace.code import Code, code_of
from modelspace.construction import Architecture, Source, apart_from, same, seeded_elsewhere
from modelspace.cost import Anatomy, anatomy, on_values, smallest_batch
from modelspace.errors import ModelspaceError
from modelspace.memory import free_bytes
from modelspace.nest import Nest, mapped
from modelspace.progress import progress
from modelspace.show import bytes_text, formula, shape_text
from modelspace.space._card import html_card, text_card
from modelspace.space._columns import TRAINING, product_table
from modelspace.space._layout import Layout, differences, layout_of
from modelspace.space._stacks import Stack, merged, selected


class Reading(NamedTuple):
    """A module read as a point: its coordinates, and its buffers, which are not coordinates."""

    point: Shaped[Tensor, "parameter"]
    buffers: dict[str, Tensor]


class ModelSpace:
    """The space of functions that one architecture can be, H = { f_p : p ∈ ℝⁿ }.

    Building a space allocates nothing: the module is made on PyTorch's meta device. A *point* p is the
    concatenation of the trainable parameters in the order of ``named_parameters()``. A tied parameter is one
    block of coordinates. Frozen parameters (``requires_grad=False``) are not coordinates: those that are the same
    for every seed, as a pretrained base is, are kept once and shared by every point. Those that differ between
    seeds (random features), or that the forward writes into (a target by moving average), belong to a point as
    buffers do, which are not coordinates either.

    Args:
        architecture: A class or factory, or an ``nn.Module``. From a module, new points are drawn by calling
            ``reset_parameters()`` of its submodules; its frozen parameters stay as they are.
        input_shape: One sample's shape without the batch, ``(3, 7, 7)``. Needed for the anatomy (output
            shapes, cost) and for lazy layers.
        dtype: Cast the module to this floating-point type; as built where None.
        input_dtype: The type of the samples, ``torch.long`` for embeddings.
        **hyperparameters: The architecture's own arguments; other values make another space.

    Raises:
        ModelspaceError: arguments missing or unknown, no trainable parameter, mixed types, or lazy layers
            without ``input_shape``.

    Example:
        >>> space = ModelSpace(nn.Linear, in_features=4, out_features=3)
        >>> space.dimension
        15
        >>> [(b.name, b.shape, b.start, b.stop) for b in space.layout]
        [('weight', (3, 4), 0, 12), ('bias', (3,), 12, 15)]
    """

    def __init__(
        self,
        architecture: Source,
        /,
        *,
        input_shape: Iterable[int] | None = None,
        dtype: torch.dtype | None = None,
        input_dtype: torch.dtype = torch.float32,
        **hyperparameters: Any,
    ):
        shape = None if input_shape is None else tuple(int(size) for size in input_shape)
        self._architecture = Architecture(architecture, hyperparameters, shape, dtype, input_dtype)
        self._skeleton = self._architecture.on_meta()
        self.name: str = self._architecture.name
        self.hyperparameters: dict[str, Any] = self._architecture.hyperparameters
        self.input_shape = shape
        self.input_dtype = input_dtype
        self.layout: Layout = layout_of(self._skeleton)
        self._anatomies: dict[int, Anatomy] = {}
        self._variants: dict[Any, ModelSpace] = {}

    @property
    def architecture(self) -> nn.Module | Callable[..., nn.Module]:
        """The class, factory or module that the space was made from."""
        return self._architecture.source

    @property
    def dimension(self) -> int:
        """n, the number of coordinates: trainable numbers, tied ones counted once."""
        return self.layout.dimension

    @property
    def dtype(self) -> torch.dtype:
        """The type of the coordinates."""
        return self.layout.dtype

    @cached_property
    def own_frozen(self) -> tuple[str, ...]:
        """The frozen parameters that each point has for itself.

        They differ between seeds 0 and 1, or a forward in training writes into them, which is tried where
        ``input_shape`` is known.
        """
        named = {name: p for name, p in self._skeleton.named_parameters() if not p.requires_grad}
        if not named:
            return ()
        first, second = dict(self.template.named_parameters()), dict(self.fresh(1).named_parameters())
        written = self._written_in_a_trial()
        return tuple(n for n in named if n in written or not same(first[n], second[n]))

    def _written_in_a_trial(self) -> set[str]:
        """The frozen parameters that a forward in training, on made-up samples, writes into."""
        if self.input_shape is None:
            return set()
        _ = self.code  # as it is before a forward runs
        module = self.fresh().train()
        frozen = {name: p for name, p in module.named_parameters() if not p.requires_grad}
        before = {name: (p.detach().clone(), p._version) for name, p in frozen.items()}
        make = torch.randn if self.sample_dtype.is_floating_point else torch.ones
        with torch.random.fork_rng(), seeded_elsewhere(0):
            try:
                module(make(2, *self.input_shape).to(self.sample_dtype))
            except Exception:
                return set()  # made-up samples may not fit; the first real batch is looked at again
        return {n for n, p in frozen.items() if p._version != before[n][1] or not same(p, before[n][0])}

    @cached_property
    def frozen_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each frozen parameter, by name."""
        named = self._skeleton.named_parameters()
        return {name: tuple(p.shape) for name, p in named if not p.requires_grad}

    @cached_property
    def buffer_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor that a point has beside its coordinates: buffers, and ``own_frozen``."""
        return {name: tuple(value.shape) for name, value in self.buffers_of(self._skeleton).items()}

    def buffers_of(self, module: nn.Module) -> dict[str, Tensor]:
        """A module's buffers and ``own_frozen`` parameters, by name.

        Sparse buffers, which can't be stacked, stay with the module.
        """
        own, buffers = self.own_frozen, module.named_buffers()
        found = {name: value for name, value in buffers if value.layout is torch.strided}
        parameters = dict(module.named_parameters()) if own else {}
        return {**found, **{name: parameters[name].detach() for name in own}}

    @cached_property
    def template(self) -> nn.Module:
        """A real module of this space, which nobody writes into.

        It holds what all points share: the frozen parameters, and plain tensor attributes.
        """
        return self._built(0)

    def fresh(self, seed: int = 0) -> nn.Module:
        """A real module of this space that nobody else has: a copy of the module given, or one built anew.

        Args:
            seed: Of the draw, where a class or factory was given.
        """
        return self.apart(self._built(seed))

    def apart(self, module: nn.Module) -> nn.Module:
        """A module in memory of its own, where the callable shares tensors or layers between all that it builds."""
        return apart_from(module, self.template)

    def _built(self, seed: int) -> nn.Module:
        module = self._architecture.as_given(seed)
        for layer in module.modules():
            for name, value in vars(layer).items():
                # What a hook computes before each forward, as nn.utils.weight_norm does, can't be copied.
                if isinstance(value, Tensor) and not value.is_leaf:
                    vars(layer)[name] = value.detach()
        return module

    def working_copy(self) -> nn.Module:
        """A module to compute with, whose shared frozen parameters are the template's own: they are kept once."""
        module, shared = self.fresh(), self.shared
        for name, parameter in module.named_parameters():
            if name in shared:
                parameter.data = shared[name]
        return module

    @cached_property
    def frozen(self) -> dict[str, Tensor]:
        """The frozen parameters' values in the module given, or in seed 0's."""
        if not self.frozen_shapes:
            return {}
        return {n: p.detach() for n, p in self.template.named_parameters() if not p.requires_grad}

    @cached_property
    def shared(self) -> dict[str, Tensor]:
        """Those of the frozen parameters that all points share: all but ``own_frozen``."""
        return {name: value for name, value in self.frozen.items() if name not in self.own_frozen}

    def anatomy(self, batch_size: int | None = None) -> Anatomy:
        """Layers, output shapes, FLOP and peak memory of one point.

        Args:
            batch_size: Samples; the smallest batch that trains where None: 1, or 2 where BatchNorm refuses one.

        Raises:
            ModelspaceError: no ``input_shape`` is known, or the inputs do not fit the architecture.
        """
        if self.input_shape is None:
            raise ModelspaceError(
                f"the anatomy of {self.name} needs one sample's shape: give its space input_shape=(…)"
            )
        _ = self.code  # as it is before the skeleton's forward runs
        if batch_size is None:
            return smallest_batch(self.anatomy)
        if batch_size not in self._anatomies:
            shape, kind = self.input_shape, self.sample_dtype
            self._anatomies[batch_size] = on_values(
                self._skeleton,
                lambda: self.template,
                lambda module: anatomy(module, shape, batch_size=batch_size, input_dtype=kind),
                lambda found: found.computed,
            )
        return self._anatomies[batch_size]

    @property
    def sample_dtype(self) -> torch.dtype:
        """The type of the samples: floating-point samples share the coordinates' type."""
        return self.dtype if self.input_dtype.is_floating_point else self.input_dtype

    def draw(self, seed: int) -> nn.Module:
        """The module that ``torch.manual_seed(seed); Arch()`` makes; no generator is disturbed.

        Python's and NumPy's generators are seeded with it too.

        Raises:
            ModelspaceError: the same seed makes another module each time.
        """
        return self._architecture.drawn_again(seed)

    @cached_property
    def arguments(self) -> tuple[str, ...]:
        """The names of the arguments that the class or factory takes; none of a module."""
        source = self.architecture
        if isinstance(source, nn.Module):
            return ()
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return tuple(n for n, p in inspect.signature(source).parameters.items() if p.kind in kinds)

    def variant(self, **arguments: Any) -> "ModelSpace":
        """Return the space of the same architecture with other arguments."""
        given = {**self.hyperparameters, **arguments}
        key = tuple(sorted((name, repr(value)) for name, value in given.items()))
        if key not in self._variants:
            made = ModelSpace(
                self.architecture,
                input_shape=self.input_shape,
                dtype=self._architecture.dtype,
                input_dtype=self.input_dtype,
                **given,
            )
            made._variants = self._variants
            self._variants[key] = made
        return self._variants[key]

    def is_like(self, other: "ModelSpace") -> bool:
        """Tell whether points and buffers of both have the same blocks."""
        return list(self.layout) == list(other.layout) and self.buffer_shapes == other.buffer_shapes

    def sample(self, seeds: Iterable[int] | int, **columns: Any) -> "Population":
        """A population: the product of seeds and columns, one row of P ∈ ℝ^{K×n} each.

        Args:
            seeds: The seeds, 0 … 2⁶³−1, or their number (0, 1, …). Row k is, bit for bit, the module made by
                ``torch.manual_seed(seed); Arch()``.
            **columns: Hyper-parameters that do not change H, by their own names: one value, or several
                (``lr=[1e-3, 1e-2]``); ``data_seed`` gives each member its own order of the data; ``fold``,
                ``bootstrap``, ``samples`` and ``task``, samples of its own. Arguments of the architecture are columns
                too, ``dropout=[0.0, 0.3]``; where they change ℝⁿ, ``width=[16, 32]``, the members are points of
                several spaces. But ``lr``, ``weight_decay``, ``betas``, ``momentum``, ``batch_size``, ``optimizer``,
                ``schedule`` and ``objective`` are the training's, whether or not the architecture takes arguments of
                these names.

        Returns:
            K = len(seeds) × the number of column combinations members; seeds vary fastest.

        Raises:
            ModelspaceError: no seeds, a seed twice or out of range, an empty column, or arguments with which the
                architecture can't be built.

        Example:
            >>> space = ModelSpace(nn.Linear, in_features=4, out_features=3)
            >>> space.sample(seeds=range(2), lr=[0.01, 0.1]).table
               seed    lr
            0     0  0.01
            1     1  0.01
            2     0  0.10
            3     1  0.10
        """
        return Population.from_seeds(self, product_table(seeds, columns))

    def read(self, source: nn.Module | Mapping[str, Tensor]) -> Reading:
        """A module or state dict as a point of this space, with its buffers.

        Raises:
            ModelspaceError: names or shapes differ from the layout (all differences are listed), or frozen
                parameters differ from those that this space shares.
        """
        given: dict[str, Tensor]
        if isinstance(source, nn.Module):
            given = {
                **{n: p.detach() for n, p in source.named_parameters(remove_duplicate=False)},
                **dict(source.named_buffers(remove_duplicate=False)),
            }
        else:
            given = dict(source)
        blocks = {b.name: b.shape for b in self.layout} | {n: self.buffer_shapes[n] for n in self.own_frozen}
        problems = differences(given, blocks, self._skeleton, self.shared, self.layout.tied)
        if problems:
            raise ModelspaceError(f"not a point of {self.title}: " + "; ".join(problems))
        parts = [given[block.name].reshape(-1).to(self.dtype) for block in self.layout]
        buffers = {name: given[name].detach().clone() for name in self.buffer_shapes if name in given}
        return Reading(torch.cat(parts), buffers)

    def point(self, source: nn.Module | Mapping[str, Tensor]) -> Float[Tensor, "parameter"]:
        """The coordinates of a module or state dict: the inverse of ``module``, exact.

        Raises:
            ModelspaceError: it is not a point of this space; every difference is listed.
        """
        return self.read(source).point

    def module(
        self, point: Float[Tensor, "parameter"], buffers: Mapping[str, Tensor] | None = None, *, seed: int = 0
    ) -> nn.Module:
        """The plain ``nn.Module`` at a point, on the point's device: nothing of this library is left in it.

        Args:
            point: n coordinates.
            buffers: Its buffers; those of the module built where None.
            seed: What a class or factory is called with before the point is put into what it makes.

        Raises:
            ModelspaceError: the point is not n numbers.
        """
        if tuple(point.shape) != (self.dimension,):
            raise ModelspaceError(
                f"a point of {self.title} has shape ({self.dimension},); received {tuple(point.shape)}"
            )
        module = self.fresh(seed).to(point.device)
        self.write(module, point, buffers or {})
        return module

    def write(
        self, module: nn.Module, point: Float[Tensor, "parameter"], buffers: Mapping[str, Tensor]
    ) -> None:
        """Put a point and buffers into a module of this space."""
        values = {**self.layout.views(point), **buffers}
        own = {**dict(module.named_buffers()), **dict(module.named_parameters())}
        with torch.no_grad():
            for name, value in values.items():
                own[name].copy_(value)

    @property
    def title(self) -> str:
        """The architecture's name with its arguments: ``MLP(width=64)``."""
        return self._architecture.title

    def in_dtype(self, dtype: torch.dtype) -> "ModelSpace":
        """The same architecture with coordinates of another floating-point type."""
        return ModelSpace(
            self._architecture.source,
            input_shape=self.input_shape,
            dtype=dtype,
            input_dtype=self.input_dtype,
            **self.hyperparameters,
        )

    @cached_property
    def code(self) -> Code:
        """The code that the architecture reaches: its own, and that of every layer.

        Read before a forward runs: a forward may change what it reads.
        """
        source, arguments = self._architecture.source, self.hyperparameters
        made = () if isinstance(source, nn.Module) else (source,)
        return code_of(*made, self._skeleton, **({"arguments": arguments} if arguments else {}))

    def signature(self) -> str:
        """A text that changes with the architecture: its arguments, its coordinates, and the code that it reaches."""
        return f"{self.title}\n{list(self.layout)!r}\n{self.code.hash}"

    def facts(self) -> list[tuple[str, str]]:
        """What a reader wants to know first, as (name, value) pairs."""
        own = set(self.own_frozen)
        frozen = sum(prod(s) for name, s in self.frozen_shapes.items() if name not in own)
        apart = sum(prod(self.frozen_shapes[name]) for name in own)
        buffers = sum(prod(s) for s in self.buffer_shapes.values()) - apart
        kind = str(self.dtype).removeprefix("torch.")
        rows = [("coordinates", f"n = {self.dimension:,} in {len(self.layout)} blocks, {kind}")]
        if frozen:
            rows.append(("frozen", f"{frozen:,} shared by all points"))
        if apart:
            why = "they differ from seed to seed, or the forward writes into them"
            rows.append(("frozen", f"{apart:,} of each point's own: {why}"))
        if self.layout.tied:
            rows.append(("tied", ", ".join(f"{alias} = {name}" for alias, name in self.layout.tied.items())))
        if buffers:
            count = len(self.buffer_shapes) - len(own)
            rows.append(("buffers", f"{buffers:,} in {count} tensors, one set a point"))
        if self.input_shape is not None:
            rows.append(("input", shape_text(self.input_shape)))
            try:
                cost = self.anatomy()
                forward, backward = (
                    flops // cost.batch_size for flops in (cost.forward_flops, cost.backward_flops)
                )
                said = f"{forward:,} FLOP forward, {backward:,} backward a sample (matrix products and convolutions)"
            except ModelspaceError as error:
                said = f"unknown: {error}"
            rows.append(("cost", said))
        return rows

    def _places(self) -> list[tuple[str, str, str, str]]:
        """Each tensor's name, shape, size, and where it belongs."""
        places = [(b.name, b.shape, f"p[{b.start}:{b.stop}]") for b in self.layout]
        places += [(name, shape, "frozen") for name, shape in self.frozen_shapes.items()]
        others = self.buffer_shapes.keys() - self.frozen_shapes.keys()
        places += [(name, shape, "buffer") for name, shape in self.buffer_shapes.items() if name in others]
        return [(name, shape_text(shape), f"{prod(shape):,}", place) for name, shape, place in places]

    def __repr__(self) -> str:
        return text_card(f"{self.title}   {formula(self.dimension)}", self.facts(), self._places())

    def _repr_html_(self) -> str:
        return html_card(self.title, formula(self.dimension), self.facts(), self._places(), len(self.layout))


def samples_as(inputs: Nest, dtype: torch.dtype) -> Nest:
    """Return samples for parameters of this type: real and complex tensors are cast to it, others stay."""

    def one(part: Tensor) -> Tensor:
        if part.is_complex() and dtype.itemsize >= 4:
            return part.to(dtype.to_complex())
        return part.to(dtype) if part.is_floating_point() else part

    return mapped(one, inputs)


class Population:
    """K points of one space, or of the spaces of one architecture.

    What ``space.sample`` returns draws its points when they are first asked for. A selection of its rows does the
    same for itself, so that a million members can be trained shard by shard without ever standing in memory together.

    Columns may hold arguments of the architecture. Where they change ℝⁿ, as a width does, the members are points of
    several spaces: what each member does goes on as ever (``modules``, ``fit``, ``evaluate``, ``predict``), and there
    is a matrix for each space, that of ``by_space()``.

    Attributes:
        space: The space they are points of; of several, the one that the architecture makes without these columns.
        points: P, shape ``[K, n]``, contiguous; row k is member k.
        buffers: Each buffer of the architecture for all members, shape ``[K, *shape]``.
        table: One row a member, index 0 … K−1: ``seed`` and the hyper-parameter columns.
        device: Where the points are.
        spaces: The rows of the members of each space, and the space.

    Args:
        space: The space.
        points: ``[K, n]``.
        buffers: By name, ``[K, *shape]`` each.
        table: K rows.

    Raises:
        ModelspaceError: the shapes do not agree with each other or with the space.
    """

    def __init__(
        self,
        space: ModelSpace,
        points: Float[Tensor, "member parameter"],
        buffers: Mapping[str, Tensor],
        table: pd.DataFrame,
    ):
        self._set(space, table, points.device)
        own = {name: buffers[name] for name in self.space.buffer_shapes if name in buffers}
        self._stacks: list[Stack] | None = self._checked([Stack(np.arange(len(table)), points, own)])

    @classmethod
    def from_seeds(
        cls, space: ModelSpace, table: pd.DataFrame, device: torch.device | str = "cpu"
    ) -> "Population":
        """The points that the seeds of a table draw, when they are first asked for.

        Args:
            space: The space.
            table: K rows with a column ``seed``.
            device: Where the points are to be.
        """
        population = cls.__new__(cls)
        population._set(space, table, torch.device(device))
        population._stacks = None
        return population

    @classmethod
    def from_rows(
        cls,
        space: ModelSpace,
        table: pd.DataFrame,
        make: Callable[[pd.DataFrame], tuple[Tensor, Mapping[str, Tensor]]],
        device: torch.device | str = "cpu",
    ) -> "Population":
        """The points that a function makes of rows of a table, when they are first asked for.

        What is computed shard by shard makes a shard's rows at a time. The function sees the rows as they were given,
        whatever columns the population's own table gets or loses later.

        Args:
            space: The space.
            table: K rows.
            make: Returns the points of some of these rows, ``[c, n]``, and their buffers, ``[c, *shape]`` each. The
                same for the same rows, in whatever company.
            device: Where the points are to be.
        """
        population = cls.from_seeds(space, table, device)
        population._rows = make, population.table
        return population

    @classmethod
    def from_stacks(cls, space: ModelSpace, stacks: Sequence[Stack], table: pd.DataFrame) -> "Population":
        """Return the members whose points stand in one stack for each space.

        Args:
            space: The space, without the columns.
            stacks: Each member in one of them.
            table: K rows.

        Raises:
            ModelspaceError: the shapes do not agree with the spaces of the table's rows.
        """
        population = cls.from_seeds(space, table, stacks[0].points.device if stacks else "cpu")
        population._stacks = population._checked(stacks)
        return population

    def _set(self, space: ModelSpace, table: pd.DataFrame, device: torch.device) -> None:
        self.table, self.device, self._drawn = table.reset_index(drop=True), device, None
        self._rows: tuple[Callable[..., tuple[Tensor, Mapping[str, Tensor]]], pd.DataFrame] | None = None
        self.space = space
        self.spaces = self._by_layout()
        if len(self.spaces) == 1 and not self.spaces[0][1].is_like(space):
            own = self._own()
            same = [name for name in own if len(self.table.drop_duplicates(subset=[name])) == 1]
            named = space.variant(**_arguments(self.table, 0, same))
            self.space = named if named.is_like(self.spaces[0][1]) else self.spaces[0][1]
            self.spaces = [(self.spaces[0][0], self.space)]

    def _by_layout(self) -> list[tuple[np.ndarray, ModelSpace]]:
        """The rows of each layout, and the first space that has it."""
        found: list[tuple[list[np.ndarray], ModelSpace]] = []
        for rows, space in self._by_arguments():
            known = next((k for k, (_, other) in enumerate(found) if other.is_like(space)), None)
            if known is None:
                found.append(([rows], space))
            else:
                found[known][0].append(rows)
        return [(np.sort(np.concatenate(rows)), space) for rows, space in found]

    def _by_arguments(self) -> list[tuple[np.ndarray, ModelSpace]]:
        """The rows of each combination of the architecture's arguments, and the space that they make."""
        own = self._own()
        if not own or not len(self):
            return [(np.arange(len(self)), self.space)]
        numbers = self.table.groupby(own, sort=False, dropna=False).ngroup().to_numpy()
        rows = np.split(np.argsort(numbers, kind="stable"), np.cumsum(np.bincount(numbers))[:-1])
        return [(each, self.space.variant(**_arguments(self.table, each[0], own))) for each in rows]

    def _checked(self, stacks: Sequence[Stack]) -> list[Stack]:
        """Hold tensors against the layouts of the rows."""
        members = np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *(stack.rows for stack in stacks)]))
        if len(stacks) != len(self.spaces) or not np.array_equal(members, np.arange(len(self))):
            raise ModelspaceError(
                f"members of {len(self.spaces)} spaces have a matrix for each; received {len(stacks)}"
            )
        own = [
            next((s for s in stacks if np.array_equal(s.rows, rows)), stacks[0]) for rows, _ in self.spaces
        ]
        for (rows, space), stack in zip(self.spaces, own, strict=True):
            if tuple(stack.points.shape) != (len(rows), space.dimension):
                raise ModelspaceError(
                    f"{len(rows)} members of {space.title} are a matrix of {len(rows)}×{space.dimension}; "
                    f"received {tuple(stack.points.shape)}"
                )
            for name, shape in space.buffer_shapes.items():
                if name not in stack.buffers or tuple(stack.buffers[name].shape) != (len(rows), *shape):
                    received = tuple(stack.buffers[name].shape) if name in stack.buffers else "nothing"
                    raise ModelspaceError(f"buffer {name} must be {(len(rows), *shape)}; received {received}")
        return [stack.mapped(Tensor.contiguous) for stack in own]

    @property
    def points(self) -> Float[Tensor, "member parameter"]:
        """P, shape ``[K, n]``, contiguous; row k is member k.

        Raises:
            ModelspaceError: the members are points of several spaces.
        """
        return self._one("points").points

    @points.setter
    def points(self, points: Float[Tensor, "member parameter"]) -> None:
        if points is not self.points:
            changed = Population(self.space, points, self.buffers, self.table)
            self._stacks, self._drawn, self.device = changed._stacks, None, changed.device

    @property
    def buffers(self) -> dict[str, Tensor]:
        """Each buffer of the architecture for all members, shape ``[K, *shape]``.

        Raises:
            ModelspaceError: the members are points of several spaces.
        """
        return self._one("buffers").buffers

    def _one(self, what: str) -> Stack:
        """The stack of a population of one space."""
        if len(self.spaces) > 1:
            sizes = ", ".join(f"ℝ^{space.dimension:,}" for _, space in self.spaces[:4])
            raise ModelspaceError(
                f"the {what} of members of {len(self.spaces)} spaces ({sizes}{', …' * (len(self.spaces) > 4)}) are "
                f"no one matrix: take those of one space, population.query('{self._own()[0]} == …'), or walk over "
                "population.by_space()"
            )
        return self.stacks[0]

    @property
    def stacks(self) -> list[Stack]:
        """The members' points and buffers, a stack for each space; drawn where they are not yet."""
        if self._stacks is None:
            drawn = [(rows, part, part._made()) for rows, part in self.parts()]
            stacks = []
            for rows, space in self.spaces:
                own = [(r, *values) for r, part, values in drawn if part.space.is_like(space)]
                stacks.append(replace(merged(own).mapped(lambda value: value.to(self.device)), rows=rows))
            self._stacks = self._checked(stacks)
            self._drawn = self._version if self._rows is None else None
        return self._stacks

    def _made(self) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The points and buffers of members of one space, from their rows."""
        if self._rows is None:
            return _draw(self.space, self.table["seed"].tolist())
        make, rows = self._rows
        _check_room(
            self.space, len(self), self.device, "evaluate them, which takes a shard at a time, or take fewer"
        )
        return make(rows)

    def _unmade(
        self,
        space: ModelSpace,
        table: pd.DataFrame,
        rows: np.ndarray | None = None,
        device: torch.device | str | None = None,
    ) -> "Population":
        """Some of these members, which are to be made as these are."""
        population = Population.from_seeds(space, table, self.device if device is None else device)
        if self._rows is not None:
            make, given = self._rows
            population._rows = make, given if rows is None else given.iloc[rows].reset_index(drop=True)
        return population

    @property
    def _version(self) -> int:
        return sum(stack.version for stack in self._stacks or ())

    @property
    def is_drawn(self) -> bool:
        """Whether each point is still the one that its seed draws."""
        return self._rows is None if self._stacks is None else self._drawn == self._version

    @property
    def is_made(self) -> bool:
        """Whether the points stand in memory already."""
        return self._stacks is not None

    def by_space(self) -> list[tuple[np.ndarray, "Population"]]:
        """Return the members by the space that they are points of.

        Returns:
            For each space, its members' rows here, and these members: ``points`` is their matrix.
        """
        return [(rows, self if len(self.spaces) == 1 else self[rows]) for rows, _ in self.spaces]

    def parts(self) -> list[tuple[np.ndarray, "Population"]]:
        """Return the members by the values of the columns that are arguments of the architecture.

        Returns:
            For each combination, its rows here, and its members as points of the space that has these arguments.
        """
        own = self._own()
        if not own or not len(self):
            return [(np.arange(len(self)), self)]
        found = []
        for rows, space in self._by_arguments():
            table = self.table.iloc[rows].drop(columns=own)
            if self._stacks is None:
                found.append((rows, self._unmade(space, table, rows)))
            else:
                found.append((rows, self._like(space, selected(self._stacks, rows), table)))
        return found

    def _own(self) -> list[str]:
        """Return the columns that are arguments of the architecture."""
        return [name for name in self.table if name in self.space.arguments and name not in TRAINING]

    @property
    def title(self) -> str:
        """The architecture's name with the arguments that all members share and no column holds: ``MLP(depth=2)``."""
        own = self._own()
        shared = [f"{n}={v!r}" for n, v in self.space.hyperparameters.items() if n not in own]
        return self.space.title if not own else self.space.name + (f"({', '.join(shared)})" if shared else "")

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, which: int | slice | Iterable[int] | Iterable[bool]) -> "Population":
        """The members selected by position, slice, positions or a mask of K booleans, as a population."""
        if isinstance(which, slice):
            rows = np.arange(len(self))[which]
        elif isinstance(which, int | np.integer):
            rows = np.array([self._position(int(which))])
        else:
            asked = np.asarray(which.cpu() if isinstance(which, Tensor) else which)
            if asked.dtype == bool and asked.shape != (len(self),):
                raise ModelspaceError(
                    f"a mask has one entry a member ({len(self)}); received {asked.shape[0]}"
                )
            rows = np.flatnonzero(asked) if asked.dtype == bool else asked.astype(int).reshape(-1)
            rows = np.array([self._position(int(r)) for r in rows], dtype=int)
        table = self.table.iloc[rows]
        if self._stacks is None:
            return self._unmade(self.space, table, rows)
        return self._like(self.space, selected(self._stacks, rows), table)

    def _like(self, space: ModelSpace, stacks: Sequence[Stack], table: pd.DataFrame) -> "Population":
        """A population of these, which were made from this one's without changing a number."""
        made = Population.from_stacks(space, stacks, table)
        if self.is_drawn:
            made._drawn = made._version
        return made

    def query(self, expression: str) -> "Population":
        """The members whose table row satisfies a pandas expression: ``population.query("lr > 1e-3")``."""
        try:
            chosen = self.table.query(expression)
        except Exception as error:
            columns = ", ".join(map(str, self.table.columns))
            raise ModelspaceError(f"query '{expression}': {error} (columns: {columns})") from error
        return self[np.asarray(chosen.index, dtype=int)]

    def module(self, member: int) -> nn.Module:
        """Member k as a plain ``nn.Module``, a copy."""
        k = self._position(member)
        if self._rows is not None and not self.is_made and len(self) > 1:
            return self[k].module(0)
        seed = int(self.table["seed"].iloc[k]) if "seed" in self.table else 0
        stack = next(stack for stack in self.stacks if k in stack.rows)
        at = int(stack.at([k])[0])
        own = self._own()
        space = self.space.variant(**_arguments(self.table, k, own)) if own else self.space
        return space.module(stack.points[at], {n: b[at] for n, b in stack.buffers.items()}, seed=seed)

    def modules(self) -> list[nn.Module]:
        """Every member as a plain ``nn.Module``."""
        return [self.module(k) for k in range(len(self))]

    def state_dict(self, member: int) -> dict[str, Tensor]:
        """Member k's plain state dict, which ``Arch().load_state_dict`` takes."""
        return self.module(member).state_dict()

    def with_columns(self, **columns: Any) -> "Population":
        """The same points with further columns: one value for all, or one value a member."""
        table = self.table.assign(**columns)
        if "seed" in columns and self._rows is None:
            return Population.from_stacks(self.space, self.stacks, table)
        return self._with(table)

    def without_columns(self, *names: str) -> "Population":
        """The same points without some columns of the table, such as it has."""
        return self._with(self.table.drop(columns=[name for name in names if name in self.table]))

    def _with(self, table: pd.DataFrame) -> "Population":
        """The same points under another table."""
        if self._stacks is None:
            return self._unmade(self.space, table)
        return self._like(self.space, self._stacks, table)

    def copy(self) -> "Population":
        """The same members in memory of their own."""
        return self._like(
            self.space, [stack.mapped(Tensor.clone) for stack in self.stacks], self.table.copy()
        )

    def to(self, device: torch.device | str) -> "Population":
        """The same members on another device."""
        if self._stacks is None:
            return self._unmade(self.space, self.table, device=device)
        stacks = [stack.mapped(lambda value: value.to(device)) for stack in self._stacks]
        return self._like(self.space, stacks, self.table)

    def in_dtype(self, dtype: torch.dtype) -> "Population":
        """The same members with coordinates of another floating-point type."""
        space = self.space.in_dtype(dtype)
        if self.is_drawn:
            return Population.from_seeds(space, self.table, self.device)
        if self._stacks is None and self._rows is not None and len(self.spaces) == 1:
            make, rows = self._rows
            return Population.from_rows(space, rows, partial(_cast, space, make), self.device)._with(
                self.table
            )
        stacks = []
        for (_, space_before), stack in zip(self.spaces, self.stacks, strict=True):
            points, buffers = _typed(space_before.in_dtype(dtype), stack.points, stack.buffers)
            stacks.append(Stack(stack.rows, points, buffers))
        return Population.from_stacks(space, stacks, self.table)

    def __iter__(self) -> Iterator[nn.Module]:
        return (self.module(k) for k in range(len(self)))

    def _position(self, member: int) -> int:
        if not -len(self) <= member < len(self):
            raise ModelspaceError(f"no member {member}: the population has {len(self)}, 0 to {len(self) - 1}")
        return member % len(self)

    def __repr__(self) -> str:
        size = sum(len(rows) * space.dimension * space.dtype.itemsize for rows, space in self.spaces)
        if len(self.spaces) == 1:
            of = f"{self.space.title}: P ∈ ℝ^{{{len(self)}×{self.space.dimension}}}"
        else:
            sizes = sorted(space.dimension for _, space in self.spaces)
            of = f"{len(self.spaces)} spaces of {self.space.name}, n from {sizes[0]:,} to {sizes[-1]:,}"
        head = f"Population of {len(self)} points of {of}, {bytes_text(size)} on {self.device}"
        return f"{head}\n{self.table.to_string(max_rows=10)}"

    def _repr_html_(self) -> str:
        head = repr(self).splitlines()[0]
        return f"<div><p>{escape(head)}</p>{self.table.to_html(max_rows=10, escape=True)}</div>"


def _arguments(table: pd.DataFrame, row: int, names: Iterable[str]) -> dict[str, Any]:
    """A row's values as Python's own, each of its column's type."""
    values = {name: table[name].iloc[row] for name in names}
    return {name: v.item() if isinstance(v, np.generic) else v for name, v in values.items()}


def _typed(
    space: ModelSpace, points: Tensor, buffers: Mapping[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Points and buffers in the types that a space has them in."""
    kinds = {name: value.dtype for name, value in space.buffers_of(space.template).items()}
    return points.to(space.dtype), {name: value.to(kinds[name]) for name, value in buffers.items()}


def _cast(
    space: ModelSpace, make: Callable[..., Any], rows: pd.DataFrame
) -> tuple[Tensor, dict[str, Tensor]]:
    """What a function makes of rows, in the types of another space."""
    return _typed(space, *make(rows))


def _check_room(space: ModelSpace, members: int, device: torch.device, fix: str) -> None:
    """Refuse points for which there is no room in memory."""
    needed, free = members * space.dimension * space.dtype.itemsize, free_bytes(device)
    if needed > free:
        raise ModelspaceError(
            f"{members:,} points of {space.dimension:,} numbers take {bytes_text(needed)}, and {bytes_text(free)} "
            f"are free: {fix if members > 1 else f'{space.title} is too large for this machine'}"
        )


def _draw(space: ModelSpace, seeds: list[int]) -> tuple[Tensor, dict[str, Tensor]]:
    """A point and buffers for each seed; each seed is drawn once, however many rows have it."""
    drawn = list(dict.fromkeys(seeds))
    _check_room(space, len(drawn), torch.device("cpu"), "sample fewer seeds")
    points = torch.empty(len(drawn), space.dimension, dtype=space.dtype)
    buffers: dict[str, Tensor] = {}
    with progress(f"sampling {len(drawn)} seeds of {space.title}", len(drawn), "points") as advance:
        for row, seed in enumerate(drawn):
            module = space.draw(int(seed))
            parameters = dict(module.named_parameters())
            if set(parameters) != {b.name for b in space.layout} | set(space.frozen_shapes) | set(
                space.own_frozen
            ):
                raise ModelspaceError(
                    f"{space.title} has other parameters with seed {seed} than without: not one space"
                )
            torch.cat([parameters[b.name].detach().reshape(-1) for b in space.layout], out=points[row])
            for name, value in space.buffers_of(module).items():
                if name not in buffers:
                    buffers[name] = value.new_empty(len(drawn), *value.shape)
                buffers[name][row] = value
            advance(1)
    if not drawn:
        buffers = {name: value[None][:0].clone() for name, value in space.buffers_of(space.template).items()}
    if len(drawn) < len(seeds):
        position = {seed: row for row, seed in enumerate(drawn)}
        index = torch.tensor([position[seed] for seed in seeds])
        points = points[index]
        buffers = {name: value[index] for name, value in buffers.items()}
    return points, buffers


def joined(populations: Iterable[Population], table: pd.DataFrame) -> Population:
    """Populations of one architecture one after the other, as one, under a new table."""
    parts = list(populations)
    first = np.cumsum([0, *map(len, parts)])
    found: list[tuple[ModelSpace, list[tuple[np.ndarray, Tensor, dict[str, Tensor]]]]] = []
    for start, part in zip(first, parts, strict=False):
        for (_, space), stack in zip(part.spaces, part.stacks, strict=True):
            moved = stack.mapped(lambda value: value.to(parts[0].device))
            own = (start + stack.rows, moved.points, moved.buffers)
            known = next((given for other, given in found if other.is_like(space)), None)
            if known is None:
                found.append((space, [own]))
            else:
                known.append(own)
    return Population.from_stacks(parts[0].space, [merged(given) for _, given in found], table)
