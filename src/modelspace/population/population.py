"""``Population``: K points of one space as a matrix P ∈ ℝ^{K×n}, with a table of what made each row."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from modelspace.errors import ModelspaceError
from modelspace.late import performs
from modelspace.population.columns import product_table
from modelspace.progress import progress
from modelspace.space import ModelSpace


@dataclass(frozen=True)
class _Values:
    """A population's numbers."""

    points: Tensor
    buffers: dict[str, Tensor]

    @property
    def version(self) -> int:
        """Grows with every write into them."""
        return self.points._version + sum(value._version for value in self.buffers.values())


class Population:
    """K points of one space.

    What ``space.sample`` returns draws its points when they are first asked for. A selection of its rows does the
    same for itself, so that a million members can be trained shard by shard without ever standing in memory together.

    Attributes:
        space: The space they are points of.
        points: P, shape ``[K, n]``, contiguous; row k is member k.
        buffers: Each buffer of the architecture for all members, shape ``[K, *shape]``.
        table: One row a member, index 0 … K−1: ``seed`` and the hyper-parameter columns.
        device: Where the points are.

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
        members = len(table)
        if tuple(points.shape) != (members, space.dimension):
            raise ModelspaceError(
                f"{members} members of {space.title} are a matrix of {members}×{space.dimension}; "
                f"received {tuple(points.shape)}"
            )
        for name, shape in space.buffer_shapes.items():
            if name not in buffers or tuple(buffers[name].shape) != (members, *shape):
                received = tuple(buffers[name].shape) if name in buffers else "nothing"
                raise ModelspaceError(f"buffer {name} must be {(members, *shape)}; received {received}")
        self.space = space
        self.table = table.reset_index(drop=True)
        self.device = points.device
        self._values: _Values | None = _Values(
            points.contiguous(), {name: buffers[name].contiguous() for name in space.buffer_shapes}
        )
        self._drawn: int | None = None  # the values' version as they were drawn from the table's seeds

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
        population.space = space
        population.table = table.reset_index(drop=True)
        population.device = torch.device(device)
        population._values = None
        population._drawn = None
        return population

    @property
    def points(self) -> Float[Tensor, "member parameter"]:
        """P, shape ``[K, n]``, contiguous; row k is member k."""
        return self._made().points

    @points.setter
    def points(self, points: Float[Tensor, "member parameter"]) -> None:
        if points is not self.points:
            changed = Population(self.space, points, self.buffers, self.table)
            self._values, self._drawn, self.device = changed._values, None, changed.device

    @property
    def buffers(self) -> dict[str, Tensor]:
        """Each buffer of the architecture for all members, shape ``[K, *shape]``."""
        return self._made().buffers

    @property
    def is_drawn(self) -> bool:
        """Whether each point is still the one that its seed draws."""
        return self._values is None or self._drawn == self._values.version

    @property
    def is_made(self) -> bool:
        """Whether the points stand in memory already."""
        return self._values is not None

    def _made(self) -> "_Values":
        if self._values is None:
            points, buffers = _draw(self.space, self.table["seed"].tolist())
            self._values = _Values(
                points.to(self.device), {name: value.to(self.device) for name, value in buffers.items()}
            )
            self._drawn = self._values.version
        return self._values

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
        if self._values is None:
            return Population.from_seeds(self.space, table, self.device)
        index = torch.from_numpy(rows).to(self.device)
        buffers = {name: value[index] for name, value in self.buffers.items()}
        return self._like(self.points[index], buffers, table)

    def _like(self, points: Tensor, buffers: dict[str, Tensor], table: pd.DataFrame) -> "Population":
        """A population of these, which were made from this one's without changing a number."""
        made = Population(self.space, points, buffers, table)
        if self.is_drawn and made._values is not None:
            made._drawn = made._values.version
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
        seed = int(self.table["seed"].iloc[k]) if "seed" in self.table else 0
        buffers = {name: value[k] for name, value in self.buffers.items()}
        return self.space.module(self.points[k], buffers, seed=seed)

    def modules(self) -> list[nn.Module]:
        """Every member as a plain ``nn.Module``."""
        return [self.module(k) for k in range(len(self))]

    def state_dict(self, member: int) -> dict[str, Tensor]:
        """Member k's plain state dict, which ``Arch().load_state_dict`` takes."""
        return self.module(member).state_dict()

    def with_columns(self, **columns: Any) -> "Population":
        """The same points with further columns: one value for all, or one value a member."""
        table = self.table.assign(**columns)
        if "seed" in columns:
            return Population(self.space, self.points, self.buffers, table)
        if self._values is None:
            return Population.from_seeds(self.space, table, self.device)
        return self._like(self.points, self.buffers, table)

    def copy(self) -> "Population":
        """The same members in memory of their own."""
        buffers = {name: value.clone() for name, value in self.buffers.items()}
        return self._like(self.points.clone(), buffers, self.table.copy())

    def to(self, device: torch.device | str) -> "Population":
        """The same members on another device."""
        if self._values is None:
            return Population.from_seeds(self.space, self.table, device)
        buffers = {name: value.to(device) for name, value in self.buffers.items()}
        return self._like(self.points.to(device), buffers, self.table)

    def __iter__(self) -> Iterator[nn.Module]:
        return (self.module(k) for k in range(len(self)))

    def _position(self, member: int) -> int:
        if not -len(self) <= member < len(self):
            raise ModelspaceError(f"no member {member}: the population has {len(self)}, 0 to {len(self) - 1}")
        return member % len(self)

    def __repr__(self) -> str:
        size = len(self) * self.space.dimension * self.space.dtype.itemsize / 2**20
        head = f"Population of {len(self)} points of {self.space.title}: P ∈ ℝ^{{{len(self)}×{self.space.dimension}}}"
        return f"{head}, {size:.1f} MiB on {self.device}\n{self.table.to_string(max_rows=10)}"

    def _repr_html_(self) -> str:
        from html import escape

        head = repr(self).splitlines()[0]
        return f"<div><p>{escape(head)}</p>{self.table.to_html(max_rows=10, escape=True)}</div>"


@performs("space.sample")
def sample(space: ModelSpace, seeds: Iterable[int] | int, columns: Mapping[str, Any]) -> Population:
    """The population that ``space.sample`` returns."""
    return Population.from_seeds(space, product_table(seeds, columns))


def _draw(space: ModelSpace, seeds: list[int]) -> tuple[Tensor, dict[str, Tensor]]:
    """A point and buffers for each seed; each seed is drawn once, however many rows have it."""
    drawn = list(dict.fromkeys(seeds))
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
    """Populations of one space one after the other, as one, under a new table."""
    parts = list(populations)
    device = parts[0].device
    points = torch.cat([part.points.to(device) for part in parts])
    buffers = {name: torch.cat([p.buffers[name].to(device) for p in parts]) for name in parts[0].buffers}
    return Population(parts[0].space, points, buffers, table)
