"""``Family``: spaces indexed by the hyper-parameters that change H."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from html import escape
from importlib import import_module
from itertools import product
from typing import Any

import pandas as pd
import torch
from torch import nn

from modelspace.construction import Source, made_of
from modelspace.errors import ModelspaceError
from modelspace.family._axes import axes_of
from modelspace.family._costs import QUANTITIES, Costs, Member, Members, Shape, table_of
from modelspace.family._law import Law
from modelspace.family._solve import Solution, solved
from modelspace.space import ModelSpace, Population

_SHOWN = 12  # rows


class Family:
    """The spaces H_w = { f_p : p ∈ ℝⁿ⁽ʷ⁾ } of one architecture, w its hyper-parameters.

    What a member costs is known without building it wherever a *law* holds: parameters and FLOP are exactly
    affine in depth, and polynomial in widths. The laws are found from few small members on the meta device,
    in rational arithmetic, and checked on further ones. Peak memory is a maximum over a pass: it is measured
    member by member, and in a family of more than 64 members taken from a law where all checks allow one.

    Nothing is computed before it is asked for, and nothing is allocated.

    Args:
        architecture: A class or factory.
        input_shape: One sample's shape without the batch, or a function that gives it from the
            hyper-parameters (by keyword). Without it only n is known.
        dtype: Cast the members to this floating-point type; as built where None.
        input_dtype: The type of the samples, ``torch.long`` for embeddings.
        batch_size: Samples that FLOP and memory are for; the smallest that trains where None.
        memory: Whether peak memory is measured; False makes the table of a large family quick.
        **hyperparameters: The architecture's own arguments. A list, a range or an array varies; anything
            else, tuples too, is fixed.

    Raises:
        ModelspaceError: nothing varies, a list is empty or has a value twice, or the architecture is a module.

    Example:
        >>> shape = lambda in_features, **_: (in_features,)
        >>> family = Family(nn.Linear, in_features=[8, 16], out_features=[1, 2, 3], input_shape=shape)
        >>> family.laws["n"]
        n(in_features, out_features) = in_features·out_features + out_features
        >>> family.laws["forward_flops"](in_features=10**6, out_features=10**6)
        2000000000000
        >>> len(family), family.space(in_features=8, out_features=3).dimension
        (6, 27)
    """

    def __init__(
        self,
        architecture: Source,
        /,
        *,
        input_shape: Shape = None,
        dtype: torch.dtype | None = None,
        input_dtype: torch.dtype = torch.float32,
        batch_size: int | None = None,
        memory: bool = True,
        **hyperparameters: Any,
    ):
        made, hyperparameters = made_of(architecture, hyperparameters)
        if isinstance(made, nn.Module):
            raise ModelspaceError(
                f"{type(made).__name__} is already built, so nothing of it can vary: give its class"
            )
        self.axes = axes_of(hyperparameters)
        self.name: str = getattr(made, "__name__", None) or type(made).__name__
        self._members = Members(made, self.axes.fixed, input_shape, dtype, input_dtype, batch_size)
        counts = QUANTITIES if memory else QUANTITIES[:3]
        self.quantities: tuple[str, ...] = counts if self._members.has_shape else ("n",)
        self._costs = Costs(self.axes, self.quantities, self._members)

    @property
    def batch_size(self) -> int | None:
        """The samples that FLOP and memory are for; None before anything was traced, unless given."""
        return self._members.batch_size

    @property
    def laws(self) -> Mapping[str, Law]:
        """The law of each quantity, by its name in the table, found when it is first asked for."""
        return self._costs.laws

    def space(self, **hyperparameters: Any) -> ModelSpace:
        """The space of one member, which need not be one of those listed.

        Raises:
            ModelspaceError: a hyper-parameter is missing or unknown, or the member can't be built.
        """
        return self._members.space(self.axes.completed(hyperparameters))

    def sample(self, seeds: Iterable[int] | int, **columns: Any) -> Population:
        """Sample points of every listed space: the product of hyper-parameters, columns and seeds.

        One population, so one run and one table tell which width is best: ``ms.fit(family.sample(16, lr=1e-2), …)``.
        Its members are points of several spaces: each has its own program, and its matrix in ``by_space()``.

        Args:
            seeds: The seeds, 0 … 2⁶³−1, or their number.
            **columns: Hyper-parameters of the training, as of ``ModelSpace.sample``; or values of the family's own in
                place of those listed.

        Raises:
            ModelspaceError: a member can't be built, the members take samples of different shapes, or what
                ``ModelSpace.sample`` raises.

        Example:
            >>> family = Family(nn.Linear, in_features=8, out_features=[2, 3], input_shape=(8,))
            >>> population = family.sample(2, lr=0.01)
            >>> [(len(rows), part.space.dimension) for rows, part in population.by_space()]
            [(2, 18), (2, 27)]
        """
        given = {name: columns.pop(name, values) for name, values in self.axes.listed.items()}
        given = {
            n: list(v) if isinstance(v, Iterable) and not isinstance(v, str) else [v]
            for n, v in given.items()
        }
        for name in self.axes.fixed.keys() & columns.keys():
            self.axes.require(name)
        every = product(*given.values())
        spaces = [self._members.space(dict(zip(given, values, strict=True))) for values in every]
        if len(shapes := {space.input_shape for space in spaces}) > 1:
            raise ModelspaceError(
                f"members that take samples of {len(shapes)} shapes can't share data: fit each space by itself"
            )
        return spaces[0].sample(seeds, **given, **columns)

    def member(self, **hyperparameters: Any) -> Member:
        """What one member costs: by law where one holds, else by a trace.

        Raises:
            ModelspaceError: a hyper-parameter is missing or unknown, or the member can't be built.
        """
        return self._costs.member(self.axes.completed(hyperparameters))

    def measure(self, **hyperparameters: Any) -> Member:
        """What one member costs, by a real trace on the meta device.

        Raises:
            ModelspaceError: a hyper-parameter is missing or unknown, or the member can't be built.
        """
        return self._members.trace(self.axes.completed(hyperparameters))

    @property
    def memory_by_law(self) -> bool:
        """Whether the table takes peak memory from a law, where one passes its checks."""
        return self._costs.memory_by_law

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a member: hyper-parameters, n, FLOP forward and backward of the batch, peak bytes.

        A member that can't be built has no numbers (``<NA>``); `refused` says why. Up to 64 members are all
        built, and held against the laws, as those are that are traced: a law that one contradicts is given up.
        """
        return table_of(self.axes, self.quantities, self._costs.rows)

    @property
    def refused(self) -> dict[int, str]:
        """Why a listed member can't be built or traced, by its row."""
        return {i: str(row) for i, row in enumerate(self._costs.rows) if isinstance(row, ModelspaceError)}

    def solve(
        self,
        *,
        parameters: float | None = None,
        flops: float | None = None,
        memory: float | None = None,
        over: str | list[str] | tuple[str, ...] | None = None,
        ratio: Mapping[str, float] | None = None,
        prefer: str | None = None,
        within: float = 0.05,
        **given: Any,
    ) -> Solution:
        """The integer member nearest to a target, found by law, proven by its neighbours and one real trace.

        With one unknown, every integer is a candidate. With a ``ratio``, the unknown of the largest share runs
        over the integers and the others follow it, rounded to whole numbers of at least 1. With several
        unknowns and no ratio, the first is solved for at every listed value of the others, and the nearest of
        all is taken, or the one with the most of what is preferred.

        Args:
            parameters: Target for n.
            flops: Target for the FLOP of forward and backward over the batch.
            memory: Target for peak bytes.
            over: The unknown, or several; the only integer hyper-parameter that isn't given where None.
            ratio: The unknowns with their shares, ``{"width": 64, "depth": 1}``.
            prefer: One of several unknowns: among solutions ``within`` reach of the target, the one with the
                most of it; with a minus before its name (``"-depth"``), the least.
            within: The relative distance that ``prefer`` may cost.
            **given: A value for each other hyper-parameter; one that has a single value needs none.

        Returns:
            The member with its values, neighbours and law.

        Raises:
            ModelspaceError: not exactly one target, one that is out of reach, an unknown that isn't made of
                integers or that the target doesn't grow with, or a member that can't be built.

        Example:
            >>> family = Family(nn.Linear, in_features=[8, 16], out_features=5)
            >>> family.solve(parameters=1000)
            in_features=199
              parameters  1,000, +0.000% off 1,000
              below       in_features=198: 995, -0.500%
              above       in_features=200: 1,005, +0.500%
              traced      n = 1,000
              found by    n(in_features) = 5·in_features + 5
        """
        targets = {"parameters": parameters, "flops": flops, "memory": memory}
        return solved(targets, over, ratio or {}, prefer, within, given, self.axes, self._costs)

    def plot(self, path: Any = None) -> Any:
        """Scaling plots: n, FLOP and memory against each integer hyper-parameter, on logarithmic axes.

        Args:
            path: Where it goes, by its ending .html, .png, .svg or .pdf; not written where None.

        Returns:
            The plotly figure.

        Raises:
            ModelspaceError: no hyper-parameter is an integer, or the place can't be written to.
        """
        return import_module("modelspace.report").plot_family(self, path)

    @property
    def title(self) -> str:
        """``MLP(width=[16, 32], depth=[1, 2], classes=10)``."""
        arguments = {name: list(values) for name, values in self.axes.listed.items()} | self.axes.fixed
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"

    def __len__(self) -> int:
        return self.axes.count

    def __iter__(self) -> Iterator[ModelSpace]:
        return (self._members.space(member) for member in self.axes.members())

    def __getitem__(self, row: int) -> ModelSpace:
        members = list(self.axes.members())
        if not -len(members) <= row < len(members):
            raise IndexError(f"row {row} of a family of {len(members)} members")
        return self._members.space(members[row])

    def __repr__(self) -> str:
        table = self.table.to_string(max_rows=_SHOWN, index=True)
        return "\n".join([f"{self.title}: {self._members_text()}", *self._notes(), table, *self._refusals()])

    def _repr_html_(self) -> str:
        table = self.table.to_html(max_rows=_SHOWN, escape=True)
        notes = "".join(f"<li><code>{escape(line)}</code></li>" for line in self._notes())
        refused = "".join(f"<p>{escape(line)}</p>" for line in self._refusals())
        return (
            f"<div><p><strong>{escape(self.title)}</strong> {escape(self._members_text())}</p>"
            f"<ul>{notes}</ul>{table}{refused}</div>"
        )

    def _members_text(self) -> str:
        return f"{len(self):,} space{'s' if len(self) > 1 else ''}"

    def _notes(self) -> list[str]:
        # The table first: the members traced for it may contradict a law.
        measured = len(self.table)
        lines = []
        for quantity in self.quantities:
            if quantity != "peak_bytes" or self.memory_by_law:
                lines += str(self.laws[quantity]).splitlines()
            else:
                lines.append(f"peak_bytes: a maximum, measured in each of the {measured} members")
        if len(self.quantities) > 1:
            samples = "a sample" if self.batch_size == 1 else f"a batch of {self.batch_size}"
            of = "FLOP and bytes" if "peak_bytes" in self.quantities else "FLOP"
            lines.append(f"{of} are of one forward and backward over {samples}")
        return lines

    def _refusals(self) -> list[str]:
        return [f"row {row} can't be built: {reason}" for row, reason in self.refused.items()]
