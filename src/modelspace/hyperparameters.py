"""Hyper-parameters that may differ from member to member: their ranges, checks and columns."""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float64
from torch import Tensor

from modelspace.errors import ModelspaceError, unknown_name

# numpy's own ArrayLike refuses a float where types are checked at run time.
Values = npt.NDArray[Any] | Sequence[Any] | float | int
Hyperparameters = dict[str, float | int | tuple[float, float]]

_MEMBERS_NAMED = 3


@dataclass(frozen=True)
class Range:
    """The values that one hyper-parameter may take.

    Attributes:
        label: Its name in words: ``"learning rate"``.
        expected: The range in words, as it follows "must be".
        low: The lower limit; of a pair, one each where they differ.
        high: The upper limit, likewise.
        low_included: Whether the lower limit itself is allowed.
        high_included: Whether the upper limit itself is allowed; at ``high`` = inf, whether infinity is.
        whole: Whether only whole numbers are allowed.
        width: Numbers a member has of it: 2 for ``betas``, 1 for most.
    """

    label: str
    expected: str
    low: float | tuple[float, float]
    high: float | tuple[float, float] = math.inf
    low_included: bool = True
    high_included: bool = False
    whole: bool = False
    width: int = 1

    def admits(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Tell, number by number, which are in the range; NaN never is."""
        above = values >= self.low if self.low_included else values > self.low
        below = values <= self.high if self.high_included else values < self.high
        return above & below & (values == np.floor(values) if self.whole else True)


@runtime_checkable
class Tunable(Protocol):
    """Whatever has numeric hyper-parameters that may differ from member to member."""

    def hyperparameters(self) -> Hyperparameters:
        """Give every numeric hyper-parameter's name and default: the columns that it reads."""
        ...

    def ranges(self) -> Mapping[str, Range]:
        """Give what each of `hyperparameters` may be."""
        ...


def numbers_of(function: Any, after: int) -> Hyperparameters:
    """Give every keyword argument of a function whose default is a number.

    Args:
        function: The function; one that has no signature has none.
        after: How many parameters stand before the first.

    Example:
        >>> numbers_of(lambda x, width=3, flip=True: x, after=1)
        {'width': 3}
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())[after:]
    except (TypeError, ValueError):
        return {}
    numbers = [p for p in parameters if isinstance(p.default, int | float)]
    return {p.name: p.default for p in numbers if not isinstance(p.default, bool)}


def check(name: str, values: Values, allowed: Range) -> list[str]:
    """Say what is wrong with the values of one hyper-parameter.

    Args:
        name: The hyper-parameter.
        values: One value for all, or one a member: a number, [K] or [K, 1]; for ``betas`` [2] or [K, 2].
        allowed: What they may be.

    Returns:
        One sentence that names the first few members at fault and their values, or nothing.

    Example:
        >>> positive = Range("learning rate", "a positive number", 0.0, low_included=False)
        >>> check("lr", [0.1, 0.2, 0.3, -0.1], positive)
        ['learning rate lr must be a positive number; received -0.1 (member 3)']
    """
    must = f"{allowed.label} {name} must be {allowed.expected}; received"
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return [f"{must} {values!r}"]
    single = numbers.ndim < allowed.width
    columns = numbers.shape[-1] if allowed.width > 1 and numbers.ndim else math.prod(numbers.shape[1:])
    if numbers.ndim > 2 or columns != allowed.width:
        return [f"{must} an array of shape {numbers.shape}"]

    rows = numbers.reshape(-1, allowed.width)
    wrong = np.flatnonzero(~allowed.admits(rows).all(axis=1))
    if not wrong.size:
        return []
    received = [
        _written(rows[member]) + ("" if single else f" (member {member})")
        for member in wrong[:_MEMBERS_NAMED]
    ]
    more = f" and {wrong.size - _MEMBERS_NAMED} more" if wrong.size > _MEMBERS_NAMED else ""
    return [f"{must} {', '.join(received)}{more}"]


def _written(row: npt.NDArray[np.float64]) -> str:
    return str(row.item()) if row.size == 1 else str(tuple(row.tolist()))


def validate(owner: Tunable, columns: Mapping[str, Values]) -> None:
    """Refuse hyper-parameters that are out of range or not the owner's, all of them in one error.

    Args:
        owner: An optimizer, a schedule or a loss.
        columns: Values a member, as `check` takes them; a name left out has the owner's own value, which
            is checked too.

    Raises:
        ModelspaceError: A value is out of its range, or a column is not a hyper-parameter of the owner.

    Example:
        >>> from modelspace.optimizers import Adam
        >>> validate(Adam(), {"eps": [1e-8, -1.0]})
        Traceback (most recent call last):
        modelspace.errors.ModelspaceError: offset eps must be a number of at least 0; received -1.0 (member 1)
    """
    ranges = owner.ranges()
    problems = [
        f"{type(owner).__name__}.ranges() says nothing of {name}: what may it be?"
        for name in owner.hyperparameters()
        if name not in ranges
    ]
    if problems:
        raise ModelspaceError("; ".join(problems))
    for name, default in owner.hyperparameters().items():
        if several := _several(owner, name, default, ranges[name]):
            problems.append(several)
        else:
            problems += check(name, columns.get(name, default), ranges[name])
    kind = f"hyper-parameter of {type(owner).__name__}"
    problems += [str(unknown_name(kind, name, ranges)) for name in columns if name not in ranges]
    if problems:
        raise ModelspaceError("; ".join(problems))


def _several(owner: Tunable, name: str, value: Any, allowed: Range) -> str:
    """What is wrong with an owner's own value that is one of several members, if it is one."""
    if np.ndim(value) <= (allowed.width > 1):
        return ""
    return (
        f"{type(owner).__name__}({name}={value!r}): {name} is one {'pair' if allowed.width > 1 else 'number'} here; "
        f"several values go as a column, one a member: space.sample(seeds, {name}=[…])"
    )


def hyper_columns(
    owner: Tunable,
    columns: Mapping[str, Values],
    members: int,
    device: torch.device | str | None = None,
) -> dict[str, Float64[Tensor, "member _"]]:
    """Lay every hyper-parameter of the owner out as the column that `Optimizer.update` reads.

    Args:
        owner: An optimizer, a loss, or a schedule (whose `factor` reads the transposes, [1, K]).
        columns: Values a member, as `check` takes them; a name left out has the owner's own value.
        members: K.
        device: Where the columns are to lie.

    Returns:
        Float64 tensors [K, 1], ``betas`` [K, 2].

    Raises:
        ModelspaceError: A column has neither one value nor K.

    Example:
        >>> from modelspace.optimizers import SGD
        >>> hyper_columns(SGD(momentum=0.9), {"lr": [0.1, 0.2]}, members=2)["momentum"].shape
        torch.Size([2, 1])
    """
    ranges = owner.ranges()
    hyper = {}
    for name, default in owner.hyperparameters().items():
        values = np.asarray(columns.get(name, default), dtype=np.float64).reshape(-1, ranges[name].width)
        if len(values) not in (1, members):
            raise ModelspaceError(
                f"column {name} must have one value for each of {members} members; received {len(values)}"
            )
        hyper[name] = torch.tensor(values, device=device).expand(members, -1).contiguous()
    return hyper
