"""What names a schedule: a name, a schedule, or one of torch.optim.lr_scheduler."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from modelspace.errors import ModelspaceError, unknown_name
from modelspace.optimizers.decays import (
    CosineRestarts,
    Exponential,
    Hold,
    Lambda,
    MultiStep,
    Plateau,
    Polynomial,
)
from modelspace.optimizers.schedules import Constant, Cosine, OneCycle, Schedule, Step, Warmup

# A schedule by its name alone has no length to go by: a warm-up of 100 updates, a drop every 1000.
_BY_NAME: Mapping[str, Schedule] = {
    "constant": Constant(),
    "cosine": Cosine(),
    "restarts": CosineRestarts(every=1000, growth=2),
    "step": Step(every=1000),
    "exponential": Exponential(0.999),
    "polynomial": Polynomial(),
    "plateau": Plateau(),
    "onecycle": OneCycle(),
    "one-cycle": OneCycle(),
    "warmup": Warmup(steps=100),
}
Given = str | Schedule | None | type[LRScheduler] | LRScheduler | partial[LRScheduler]


def resolve_schedule(schedule: Given) -> Schedule:
    """Find a schedule by what names it.

    A scheduler of torch is read as one that is stepped after each update (`Plateau`: after each epoch), and from its
    start: what it counts are updates. One that your loop stepped once an epoch needs its numbers times the updates of
    an epoch.

    Args:
        schedule: A schedule; or ``"constant"``, ``"cosine"``, ``"restarts"`` (after 1000, 2000, 4000, … updates),
            ``"step"`` (a tenth every 1000 updates), ``"exponential"`` (0.999 an update), ``"polynomial"``,
            ``"plateau"``, ``"one-cycle"`` or ``"onecycle"``, ``"warmup"`` (100 updates), whatever their case, or
            several of these joined by ``*``; or a class of ``torch.optim.lr_scheduler``, a ``functools.partial`` of
            one, or one that is configured; or None, which is `Constant`.

    Returns:
        The schedule, with default parameters where nothing else is said.

    Raises:
        ModelspaceError: No schedule has that name, or it names nothing here.

    Example:
        >>> resolve_schedule("warmup*cosine")
        Product(left=Warmup(steps=100, start=0.3333333333333333, end=1.0), right=Cosine(final=0.0, steps=0))
        >>> resolve_schedule(partial(lr_scheduler.StepLR, step_size=30))
        Step(every=30, gamma=0.1)
    """
    if schedule is None:
        return Constant()
    if isinstance(schedule, str):
        left, times, right = schedule.rpartition("*")
        name = right.strip().lower()
        if name not in _BY_NAME:
            raise unknown_name("schedule", name, _BY_NAME)
        return resolve_schedule(left) * _BY_NAME[name] if times else _BY_NAME[name]
    if isinstance(schedule, LRScheduler):
        return _of_torch(type(schedule), _read(schedule), schedule)
    kind = schedule.func if isinstance(schedule, partial) else schedule
    if isinstance(kind, type) and issubclass(kind, LRScheduler):
        return _of_torch(kind, _arguments(schedule) if isinstance(schedule, partial) else {})
    if isinstance(schedule, type | partial) or not isinstance(schedule, Schedule):
        raise ModelspaceError(
            "a schedule must be a name such as 'cosine', an object such as Cosine(), or one of "
            f"torch.optim.lr_scheduler; received {schedule!r}"
        )
    return schedule


def _arguments(given: "partial[Any]") -> dict[str, Any]:
    names = [name for name in inspect.signature(given.func).parameters if name != "optimizer"]
    return {**dict(zip(names, given.args, strict=False)), **given.keywords}


def _read(scheduler: LRScheduler) -> dict[str, Any]:
    """The arguments that a scheduler was made with."""
    names = [n for n in inspect.signature(type(scheduler)).parameters if n not in ("optimizer", "last_epoch")]
    own = {name: getattr(scheduler, name) for name in names if hasattr(scheduler, name)}
    if isinstance(scheduler, lr_scheduler.LambdaLR):
        own["lr_lambda"] = scheduler.lr_lambdas
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
        own["min_lr"] = scheduler.min_lrs
    if isinstance(scheduler, lr_scheduler.MultiStepLR):
        own["milestones"] = list(scheduler.milestones.elements())
    if isinstance(scheduler, lr_scheduler.OneCycleLR):
        group, phases = scheduler.optimizer.param_groups[0], scheduler._schedule_phases
        own |= {
            "pct_start": (phases[0]["end_step"] + 1) / scheduler.total_steps,
            "div_factor": group["max_lr"] / group["initial_lr"],
            "final_div_factor": group["initial_lr"] / group["min_lr"],
            "anneal_strategy": scheduler._anneal_func_type,
            "three_phase": len(phases) > 2,
        }
    return own


def _of_torch(
    kind: type[LRScheduler], given: dict[str, Any], scheduler: LRScheduler | None = None
) -> Schedule:
    """A scheduler of torch as one of ours."""
    if scheduler is not None and kind is lr_scheduler.ChainedScheduler:
        parts = [resolve_schedule(part) for part in scheduler._schedulers]  # pyright: ignore
        product = parts[0]
        for part in parts[1:]:
            product = product * part
        return product
    if kind not in _TORCHS:
        names = ", ".join(each.__name__ for each in _TORCHS)
        raise ModelspaceError(
            f"{kind.__name__} has no form for many members here; those of torch.optim.lr_scheduler that have one are "
            f"{names}"
        )
    needs = [
        n for n, p in inspect.signature(kind).parameters.items() if p.default is p.empty and n != "optimizer"
    ]
    missing = [name for name in needs if name not in given and name != "max_lr"]
    if missing:
        raise ModelspaceError(
            f"{kind.__name__} needs {', '.join(missing)}: functools.partial({kind.__name__}, {missing[0]}=…)"
        )
    defaults = {n: p.default for n, p in inspect.signature(kind).parameters.items()}
    rates = getattr(scheduler, "base_lrs", None)
    return _TORCHS[kind]({**defaults, **given, "base_lr": rates[0] if rates else None})


def _share(given: dict[str, Any]) -> float:
    """``eta_min`` as a share of the learning rate."""
    if given["eta_min"] and given["base_lr"] is None:
        raise ModelspaceError(
            "eta_min is a learning rate, and each member has its own: give the scheduler with its optimizer, or "
            "modelspace.optimizers.Cosine(final=…), a share of it"
        )
    return float(given["eta_min"] / given["base_lr"]) if given["eta_min"] else 0.0


def _one_cycle(given: dict[str, Any]) -> Schedule:
    if given["cycle_momentum"] or given["three_phase"] or given["anneal_strategy"] != "cos":
        raise ModelspaceError(
            "OneCycleLR has a form here with cycle_momentum=False, three_phase=False and anneal_strategy='cos'; its "
            "max_lr is the learning rate"
        )
    total = given["total_steps"] or (given["epochs"] or 0) * (given["steps_per_epoch"] or 0)
    return OneCycle(given["pct_start"], given["div_factor"], given["final_div_factor"], total)


def _one_lambda(given: dict[str, Any]) -> Schedule:
    functions = given["lr_lambda"] if isinstance(given["lr_lambda"], list) else [given["lr_lambda"]]
    if len(set(functions)) > 1:
        raise ModelspaceError("LambdaLR has one function for all parameters here")
    return Lambda(functions[0])


def _plateau(given: dict[str, Any]) -> Schedule:
    if given["mode"] != "min":
        raise ModelspaceError(
            "ReduceLROnPlateau with mode='max' does not say of what: modelspace.optimizers.Plateau("
            "monitor='validation_accuracy') does"
        )
    least = given["min_lr"] if isinstance(given["min_lr"], int | float) else max(given["min_lr"])
    named = {n: given[n] for n in ("patience", "threshold", "cooldown", "threshold_mode", "eps")}
    return Plateau(given["factor"], min_lr=float(least), **named)


_TORCHS: Mapping[type[LRScheduler], Callable[[dict[str, Any]], Schedule]] = {
    lr_scheduler.StepLR: lambda g: Step(g["step_size"], g["gamma"]),
    lr_scheduler.MultiStepLR: lambda g: MultiStep(tuple(sorted(g["milestones"])), g["gamma"]),
    lr_scheduler.ConstantLR: lambda g: Hold(g["total_iters"], g["factor"]),
    lr_scheduler.LinearLR: lambda g: Warmup(g["total_iters"], g["start_factor"], g["end_factor"]),
    lr_scheduler.ExponentialLR: lambda g: Exponential(g["gamma"]),
    lr_scheduler.PolynomialLR: lambda g: Polynomial(g["power"], g["total_iters"]),
    lr_scheduler.CosineAnnealingLR: lambda g: Cosine(_share(g), g["T_max"]),
    lr_scheduler.CosineAnnealingWarmRestarts: lambda g: CosineRestarts(g["T_0"], g["T_mult"], _share(g)),
    lr_scheduler.OneCycleLR: _one_cycle,
    lr_scheduler.LambdaLR: _one_lambda,
    lr_scheduler.ReduceLROnPlateau: _plateau,
}
