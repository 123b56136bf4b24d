"""Groups of parameters that have hyper-parameters of their own, as columns: ``lr.head``, ``weight_decay.no_decay``.

A parameter may be in several groups: of those that give it the same hyper-parameter the last one holds, and factors
multiply. Parameters of the same groups are a cell: coefficients are computed once a cell, and laid out to the cell's
coordinates where there are several.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from modelspace.errors import ModelspaceError, unknown_name
from modelspace.hyperparameters import Hyperparameters, Range
from modelspace.space import ModelSpace

FACTOR = Range("group's factor", "a number of at least 0", 0.0)
FROZEN = Range("group's first update", "a whole number of at least 0", 0.0, whole=True)
LAYER_DECAY = Range("decay from layer to layer", "above 0 and at most 1", 0.0, 1.0, False, high_included=True)

Columns = Mapping[str, Float64[Tensor, "member _"]]
Given = str | Mapping[str, Any] | Iterable[str | Mapping[str, Any]] | None


class Group(NamedTuple):
    """Some parameters by a name.

    Attributes:
        name: What follows the dot in its columns.
        pattern: Which parameters: globs separated by ``|``; or a word of ``WORDS``.
        values: Hyper-parameters that hold for it where no column gives them.
        above: Layers between it and the last, for ``layer_decay``.
    """

    name: str
    pattern: str
    values: tuple[tuple[str, Any], ...] = ()
    above: int = 0

    def __str__(self) -> str:
        own = ", ".join(f"{name}={value}" for name, value in self.values)
        return f"{self.name}: {self.pattern}" + (f" ({own})" if own else "")


# The usual groups by one word.
WORDS = {
    "no_decay": "no weight decay of what has fewer than two dimensions: biases and norms",
    "layers": "each module with parameters by its name, and a column layer_decay",
}


@dataclass(frozen=True)
class Cells:
    """The parameters of a space by the groups that they are in.

    Attributes:
        groups: Each cell's, in the order given.
        of_block: The cell of each parameter, in the layout's order.
        sizes: Coordinates of each parameter.
    """

    groups: tuple[tuple[Group, ...], ...] = ((),)
    of_block: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def named(self) -> dict[str, Group]:
        """All groups by their names."""
        return {group.name: group for cell in self.groups for group in cell}

    def index(self, device: torch.device) -> Int64[Tensor, "parameter"]:
        """Return the cell of each coordinate."""
        return _index(self.of_block, self.sizes, device)


ALL = Cells()


@lru_cache(maxsize=32)
def _index(of_block: tuple[int, ...], sizes: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(np.repeat(of_block, sizes), dtype=torch.int64, device=device)


def as_groups(groups: Given) -> tuple[Group, ...]:
    """Return groups as they are given by words, patterns, or both.

    Args:
        groups: ``{"head": "fc.*"}``; a word, ``"no_decay"`` or ``"layers"``; several of them as a list. In place of a
            pattern may stand ``{"params": "fc.*", "lr": 1e-2}``, which has values too.

    Raises:
        ModelspaceError: an unknown word, a name twice, a name with a dot, or no pattern.
    """
    if groups is None:
        return ()
    parts = [groups] if isinstance(groups, str | Mapping) else list(groups)
    found: list[Group] = []
    for part in parts:
        if isinstance(part, Group):
            found.append(part)
        elif isinstance(part, Mapping):
            found += [_group(str(name), given) for name, given in part.items()]
        else:
            for word in part.split(","):
                if word.strip() not in WORDS:
                    raise unknown_name("word for groups", word.strip(), WORDS)
                values = (("weight_decay", 0.0),) if word.strip() == "no_decay" else ()
                found.append(Group(word.strip(), word.strip(), values))
    names = [group.name for group in found]
    for name in names:
        if names.count(name) > 1 or not name or any(c in name for c in " =,"):
            raise ModelspaceError(f"groups have names of their own, without spaces; received '{name}'")
    return tuple(found)


def _group(name: str, given: str | Mapping[str, Any]) -> Group:
    own = {"params": given} if isinstance(given, str) else dict(given)
    pattern = own.pop("params", None)
    if not isinstance(pattern, str) or not pattern.strip("| "):
        raise ModelspaceError(
            f"group '{name}' needs the names of its parameters, as 'fc.*|*.bias'; received {given!r}"
        )
    return Group(name, pattern, tuple(sorted(own.items())))


def cells_of(groups: Sequence[Group], space: ModelSpace) -> Cells:
    """Return the cells that groups make of a space's parameters.

    Raises:
        ModelspaceError: a group that no parameter is in.
    """
    if not groups:
        return Cells()
    blocks = list(space.layout)
    names = {block.name: [block.name] for block in blocks}
    for alias, name in space.layout.tied.items():
        names[name].append(alias)
    modules = list(dict.fromkeys(block.name.rpartition(".")[0] or "root" for block in blocks))
    mine: dict[str, list[Group]] = {name: [] for name in names}
    for group in groups:
        matched = False
        for block in blocks:
            member = group
            if group.pattern == "layers":
                own = block.name.rpartition(".")[0] or "root"
                member = Group(own, own, (), len(modules) - 1 - modules.index(own))
            elif group.pattern == "no_decay":
                if len(block.shape) > 1:
                    continue
            elif not any(
                fnmatchcase(n, p.strip()) for n in names[block.name] for p in group.pattern.split("|")
            ):
                continue
            mine[block.name].append(member)
            matched = True
        if not matched and group.pattern not in WORDS:
            raise _nothing(group, list(names))
    found = list(dict.fromkeys(tuple(mine[block.name]) for block in blocks))
    return Cells(
        tuple(found),
        tuple(found.index(tuple(mine[block.name])) for block in blocks),
        tuple(block.size for block in blocks),
    )


def _nothing(group: Group, names: list[str]) -> ModelspaceError:
    near = get_close_matches(group.pattern.replace("*", ""), names, n=3, cutoff=0.3) or names[:3]
    return ModelspaceError(
        f"group '{group.name}' ({group.pattern}) matches no parameter; the nearest are {', '.join(near)}"
    )


def columns_of(
    cells: Cells, hyperparameters: Hyperparameters, ranges: Mapping[str, Range]
) -> dict[str, Range]:
    """Return what columns the groups have, and what each may be.

    Args:
        cells: The groups.
        hyperparameters: The optimizer's.
        ranges: Theirs.
    """
    found = {}
    for name, group in cells.named.items():
        found |= {f"{hyper}.{name}": ranges[hyper] for hyper in hyperparameters}
        found |= {f"{h}_factor.{name}": FACTOR for h in hyperparameters if ranges[h].width == 1}
        found[f"frozen_until.{name}"] = FROZEN
        if group.above:
            found["layer_decay"] = LAYER_DECAY
    return found


def of_cell(cell: Sequence[Group], columns: Columns, hyperparameters: Iterable[str]) -> dict[str, Tensor]:
    """Return the hyper-parameters of a cell's parameters: the last group's own, times the factors of all.

    Args:
        cell: Its groups.
        columns: The members' columns.
        hyperparameters: The optimizer's.
    """
    found = {}
    for hyper in hyperparameters:
        own = [f"{hyper}.{group.name}" for group in cell if f"{hyper}.{group.name}" in columns]
        value = columns[own[-1] if own else hyper]
        for group in cell:
            factor = columns.get(f"{hyper}_factor.{group.name}")
            value = value if factor is None else value * factor
            if hyper == "lr" and "layer_decay" in columns and group.above:
                value = value * columns["layer_decay"] ** group.above
        found[hyper] = value
    return found


def frozen_until(cell: Sequence[Group], columns: Columns) -> Tensor | None:
    """Return the first update of a cell's parameters; None where that is the first of all."""
    own = [f"frozen_until.{group.name}" for group in cell if f"frozen_until.{group.name}" in columns]
    return torch.stack([columns[name] for name in own]).amax(0) if own else None
