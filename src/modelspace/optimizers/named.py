"""What names an optimizer: a name, an optimizer, or one of torch.optim."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import partial
from glob import escape
from typing import Any

import torch

from modelspace.errors import ModelspaceError, unknown_name
from modelspace.optimizers.adam import Adam, Adamax, AdamW, Lion, NAdam, RAdam
from modelspace.optimizers.adaptive import ASGD, Adadelta, Adagrad, RMSprop, Rprop
from modelspace.optimizers.base import Optimizer
from modelspace.optimizers.lbfgs import LBFGS
from modelspace.optimizers.matrix import LAMB, Adafactor, Muon
from modelspace.optimizers.sgd import SGD
from modelspace.optimizers.wrappers import EMA, SAM, SWA, Grouped, Named, ScheduleFreeAdamW, ScheduleFreeSGD

_KINDS = (
    *(SGD, Adam, AdamW, NAdam, RAdam, Adamax, Adagrad, Adadelta, RMSprop, Rprop, ASGD),
    *(Adafactor, Muon, LBFGS, Lion, LAMB, ScheduleFreeSGD, ScheduleFreeAdamW),
)
_BY_NAME: Mapping[str, type[Optimizer]] = {kind.__name__.lower(): kind for kind in _KINDS}
_AROUND = {"sam": SAM, "ema": EMA, "swa": SWA}
# How torch computes, and not what.
_HOW = ("foreach", "fused", "capturable", "differentiable")

Given = str | Optimizer | type[torch.optim.Optimizer] | torch.optim.Optimizer | partial[torch.optim.Optimizer]


def resolve(optimizer: Given) -> Optimizer:
    """Find an optimizer by what names it.

    Args:
        optimizer: An optimizer; its name (``"sgd"``, ``"adam"``, ``"adamw"``, …, whatever the case), or
            ``"sam(adam)"``, ``"ema(adam)"``, ``"swa(sgd)"``; a class of ``torch.optim``, a ``functools.partial`` of
            one, or one that is configured, of which the hyper-parameters are read, and the names of parameters
            where its groups differ.

    Returns:
        The optimizer, with torch's default hyper-parameters where nothing else is said.

    Raises:
        ModelspaceError: No optimizer has that name, it names nothing here, or its groups of parameters differ.

    Example:
        >>> resolve("AdamW").hyperparameters()["weight_decay"]
        0.01
        >>> resolve(partial(torch.optim.NAdam, lr=0.1)).hyperparameters()["lr"]
        0.1
    """
    if isinstance(optimizer, str):
        return _by_name(optimizer)
    given: dict[str, Any] = {}
    groups: tuple[Named, ...] = ()
    kind = optimizer
    if isinstance(optimizer, partial):
        given, kind = _arguments(optimizer), optimizer.func
    elif isinstance(optimizer, torch.optim.Optimizer):
        (given, groups), kind = _configured(optimizer), type(optimizer)
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer):
        found = _of_torch(kind, given)
        return Grouped(found, groups) if groups else found
    if isinstance(optimizer, type | partial) or not isinstance(optimizer, Optimizer):
        raise ModelspaceError(
            "an optimizer must be a name such as 'adam', an object such as modelspace.optimizers.Adam(), or one of "
            f"torch.optim; received {optimizer!r}"
        )
    # A pair given as a list is a pair; a key of what was compiled has to have a hash.
    lists = {n: tuple(v) for n, v in vars(optimizer).items() if isinstance(v, list)}
    return replace(optimizer, **lists) if lists and is_dataclass(optimizer) else optimizer


def _by_name(text: str) -> Optimizer:
    name, around, within = text.strip().lower(), None, None
    if match := re.fullmatch(r"(\w+)\((.+)\)", name):
        around, within = match.groups()
    if around in _AROUND and within:
        return _AROUND[around](_by_name(within))
    if name not in _BY_NAME:
        raise unknown_name("optimizer", text, [*_BY_NAME, *(f"{each}(…)" for each in _AROUND)])
    return _BY_NAME[name]()


def _arguments(given: "partial[Any]") -> dict[str, Any]:
    """What a partial class is given, by name."""
    names = [name for name in inspect.signature(given.func).parameters if name != "params"]
    return {**dict(zip(names, given.args, strict=False)), **given.keywords}


def _configured(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], tuple[Named, ...]]:
    """The hyper-parameters of a configured optimizer, and of its groups of parameters after the first."""
    names = inspect.signature(type(optimizer)).parameters.keys() & optimizer.defaults.keys()
    groups = [{n: _rate(g) if n == "lr" else _plain(g[n]) for n in names} for g in optimizer.param_groups]
    differ = sorted({n for g in groups for n, value in g.items() if value != groups[0][n]} - {*_HOW})
    if not differ:
        return groups[0], ()
    owned: list[list[str]] = [group.get("param_names", []) for group in optimizer.param_groups]
    if not all(owned) or any(isinstance(groups[0][n], bool | str | None) for n in differ):
        raise ModelspaceError(
            f"the groups of parameters of {type(optimizer).__name__} differ in {', '.join(differ)}: make it of "
            "model.named_parameters(), or give groups={name: pattern} to fit and the values as columns (lr.name)"
        )
    others = zip(owned[1:], groups[1:], strict=True)
    return groups[0], tuple(
        (f"group{i}", "|".join(escape(name) for name in own), tuple((n, group[n]) for n in differ))
        for i, (own, group) in enumerate(others, 1)
    )


def _rate(group: dict[str, Any]) -> float:
    """The learning rate that a schedule multiplies: a scheduler that is attached has already changed it."""
    return float(group.get("max_lr", group.get("initial_lr", group["lr"])))


def _of_torch(kind: type[torch.optim.Optimizer], given: dict[str, Any]) -> Optimizer:
    ours = _BY_NAME.get(kind.__name__.lower())
    if ours is None or getattr(torch.optim, kind.__name__, None) is not kind:
        names = ", ".join(each.__name__ for each in _KINDS if hasattr(torch.optim, each.__name__))
        raise ModelspaceError(
            f"{kind.__module__}.{kind.__name__} has no form for many members here; those of torch.optim that "
            f"have one are {names}. Write your own as a modelspace.optimizers.Optimizer"
        )
    own = {each.name for each in fields(ours)}  # pyright: ignore[reportArgumentType]
    if ours is LBFGS and (given.get("max_iter"), given.get("line_search_fn")) != (1, None):
        raise ModelspaceError(
            "LBFGS makes one iteration an update here, without line search: torch.optim.LBFGS(…, max_iter=1)"
        )
    unread = sorted(given.keys() - own - {*_HOW, "max_iter", "max_eval", "line_search_fn"})
    if unread:
        raise ModelspaceError(f"{kind.__name__} takes no {', '.join(unread)} here")
    return ours(**{n: _plain(v) for n, v in given.items() if n in own})


def _plain(value: Any) -> Any:
    """A hyper-parameter as ours has it: no tensor, and a pair with a hash."""
    if isinstance(value, torch.Tensor):
        return value.item()
    return tuple(value) if isinstance(value, list) else value
