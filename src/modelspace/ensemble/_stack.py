"""Members of one layout as one module, each of whose parameters is stacked; what of a source become members."""

import copy
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import functional_call

from modelspace import losses
from modelspace.construction import seeded
from modelspace.engine import apart, lowered
from modelspace.errors import ModelspaceError, first_line
from modelspace.losses import Loss
from modelspace.nest import Nest, mapped, on, only_tensors, stacked, take, tensors
from modelspace.population import Population
from modelspace.runs import Run, Status
from modelspace.space import samples_as

FEW = 2  # samples on which the batched form is held against the members themselves
# Under vmap as it is, which is as fast and can be traced; with the engine's lowerings; or one member after the other.
WAYS = ("vmap", "lowered", "loop")
Named = dict[str, Tensor]


class Stack(nn.Module):
    """Members of one layout: a module like them, whose parameters and buffers are ``[c, …]``; shared ones once.

    Args:
        modules: The members.
        rows: Their positions in the ensemble.
    """

    def __init__(self, modules: Sequence[nn.Module], rows: Sequence[int]):
        super().__init__()
        self.rows, self.shared = tuple(rows), set[str]()
        self.way: str | None = None  # one of ``WAYS``, once it is known
        self._real = [modules[0], modules[-1]]  # until the first call
        self.net = copy.deepcopy(modules[0])
        made: dict[int, Tensor] = {}  # all names of a tied tensor get the one
        for named in (nn.Module.named_parameters, nn.Module.named_buffers):
            held = [dict(named(module)) for module in modules]
            for name, tensor in held[0].items():
                values, trained = [own[name].detach() for own in held], tensor.requires_grad
                frozen = isinstance(tensor, nn.Parameter) and not trained
                if frozen and all(torch.equal(values[0], value) for value in values):
                    self.shared.add(name)
                    stack = values[0].clone()
                else:
                    stack = torch.stack(values)
                made[id(tensor)] = nn.Parameter(stack, trained) if isinstance(tensor, nn.Parameter) else stack
        for own, layer in zip(self.net.modules(), modules[0].modules(), strict=True):
            for held, given in ((own._parameters, layer._parameters), (own._buffers, layer._buffers)):
                held.update({name: made[id(t)] for name, t in given.items() if t is not None})  # pyright: ignore
            if isinstance(own, nn.RNNBase):
                own.flatten_parameters = _nothing

    def forward(self, *inputs: Any, **named: Any) -> Nest:
        """Return the members' outputs, ``[c, …]``: batched where that was seen to be what each computes."""
        # torch.export has no vmap (pytorch#153063): a graph for each member is what it gets; ``plain`` does better.
        exporting = torch.compiler.is_exporting()
        if self.way is None and not exporting:
            self._decide(inputs, named)
        own, shared = self._tensors()
        if exporting or self.way == "loop":
            rows = ({**shared, **{n: t[k] for n, t in own.items()}} for k in range(len(self.rows)))
            return stacked([self._called(tensors, inputs, named) for tensors in rows])
        return self._vmapped(own, shared, inputs, named)

    def _tensors(self) -> tuple[Named, Named]:
        """The members' own tensors by name, and those that they share."""
        every = _tensors_of(self.net)
        return {n: t for n, t in every.items() if n not in self.shared}, {n: every[n] for n in self.shared}

    def _vmapped(self, own: Named, shared: Named, inputs: Any, named: Any) -> Nest:
        def one(tensors: Named) -> Nest:
            with nullcontext() if self.way == "vmap" else lowered(None, batched=True):
                return self._called({**shared, **tensors}, inputs, named)

        return torch.vmap(one, randomness="different" if self.training else "same")(own)

    def _called(self, tensors: Named, inputs: Any, named: Any) -> Nest:
        given, keywords = mapped(Tensor.clone, (inputs, named))  # a network may write into what it is given
        return only_tensors(functional_call(self.net, tensors, given, keywords))

    def _decide(self, inputs: Any, named: Any) -> None:
        """Hold the ways to compute members against the first and the last of them as they were given."""
        name, why, real = type(self.net).__name__, "", []
        held = [{n: t.detach() for n, t in _tensors_of(module).items()} for module in self._real]
        like = next(t for t in held[0].values() if t.is_floating_point())
        few, more = on(like.device, samples_as(take((inputs, named), slice(FEW)), like.dtype))
        for module in self._real:
            given, keywords = mapped(Tensor.clone, (few, more))
            with evaluating(module), seeded(0):
                real.append(only_tensors(module(*given, **keywords)))
        with evaluating(self):
            try:
                for member, true in zip(held, real, strict=True):
                    with seeded(0):
                        why = why or _difference(self._called(member, few, more), true)
            except Exception as error:
                why = first_line(error)
            if why:
                raise ModelspaceError(
                    f"{name} can't be stacked ({why}): its forward depends on something that is neither parameter "
                    "nor buffer, such as a closure over its layers; modelspace.predict computes a population of it"
                )
            own = {n: torch.stack([member[n] for member in held]) for n in held[0] if n not in self.shared}
            for self.way in WAYS[:-1]:
                try:
                    with seeded(0):
                        why = _difference(self._vmapped(own, held[0], few, more), stacked(real))
                except Exception as error:
                    why = first_line(error)
                if not why:
                    break
        self._real = []
        if why:
            self.way = "loop"
            warnings.warn(f"{name}: no batched form ({why}): members are computed one by one", stacklevel=2)

    def member(self, k: int) -> nn.Module:
        """Return member k as a plain module of its own class, a copy."""
        own, shared = self._tensors()
        memo: dict[int, Any] = {id(t): t[k].detach().clone() for t in own.values()}
        memo |= {id(t): t.detach().clone() for t in shared.values()}
        for t in self.net.parameters():
            memo[id(t)] = nn.Parameter(memo[id(t)], t.requires_grad)
        made = copy.deepcopy(self.net, memo)
        for layer in made.modules():
            if isinstance(layer, nn.RNNBase):
                del layer.flatten_parameters
        return made


def _nothing() -> None:
    """Stand in for ``flatten_parameters``: stacked weights lie in no one piece."""


def _tensors_of(module: nn.Module) -> Named:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _difference(ours: Nest, real: Nest) -> str:
    """Say that outputs are others than real modules' are; nothing where they are not."""
    pairs = [*zip(tensors(ours), tensors(real), strict=True)]
    return "its outputs are others" if any(apart(own, true) for own, true in pairs) else ""


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Run the block with a module in evaluation mode, and without gradients."""
    training = module.training
    try:
        with torch.no_grad():
            module.eval()
            yield
    finally:
        module.train(training)


def layout_of(module: nn.Module) -> tuple[Any, ...]:
    """Return what members that are computed together have in common: all but the values of their tensors."""
    first: dict[int, int] = {}
    held = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    found = []
    for k, (name, t) in enumerate(held):
        found.append((name, t.shape, t.dtype, t.device, t.requires_grad, first.setdefault(id(t), k)))
    for layer in module.modules():  # plain attributes, in which members may differ: a rate of dropout
        found.append(type(layer))
        for name, value in sorted(vars(layer).items()):
            if isinstance(value, Tensor):
                found.append((name, bytes(value.detach().cpu().reshape(-1).view(torch.uint8).numpy())))
            elif name != "training" and isinstance(value, bool | int | float | str | tuple):
                found.append((name, repr(value)))
    return tuple(found)


class Members(NamedTuple):
    """What an ensemble is made of: modules, a table of them, their loss, the shape of a sample; None if not known."""

    modules: list[nn.Module]
    table: pd.DataFrame | None = None
    loss: Loss | None = None
    input_shape: tuple[int, ...] | None = None


def members_of(source: Any, which: Any, *, any_loss: bool) -> Members:
    """Take members out of a run, a population, modules, or a list of such.

    Args:
        source: It.
        which: Positions, a slice, a mask, or a query; all where None.
        any_loss: Whether it does not matter what they were trained for.
    """
    if isinstance(source, Population):
        rows = _rows(len(source), source.table, which)
        table = source.table.iloc[rows].reset_index(drop=True)
        shape = source.space.input_shape if source.space.sample_dtype.is_floating_point else None
        return Members(source[rows].modules(), table, None, shape)
    if isinstance(source, Run):
        table, status = source.table.iloc[source.kept].reset_index(drop=True), source.status[source.kept]
        rows = _rows(len(table), table, which)
        whole = rows[status[rows] != Status.DIVERGED]
        if len(rows) and not len(whole):
            raise ModelspaceError(f"an ensemble has at least one member: all {len(rows)} diverged")
        loss = None if any_loss else _loss_of(source, table.iloc[whole])
        return members_of(source.population, whole, any_loss=True)._replace(
            table=table.iloc[whole].reset_index(drop=True), loss=loss
        )
    if not isinstance(source, Iterable) or (
        isinstance(source, nn.Module) and not isinstance(source, nn.ModuleList)
    ):
        raise ModelspaceError(
            f"an ensemble is of a run, a population or a list of modules; received a {type(source).__name__}"
        )
    parts = []
    for part in source:
        if not isinstance(part, nn.Module):
            parts.append(members_of(part, None, any_loss=any_loss))
        else:
            parts.append(getattr(part, "as_members", lambda part=part: Members([part]))())
    known = {str(part.loss): part.loss for part in parts if part.loss is not None}
    if len(known) > 1 and not any_loss:
        raise _several([*known])
    modules, tables = [module for part in parts for module in part.modules], [part.table for part in parts]
    table = tables[0] if len(parts) == 1 else None
    rows = _rows(len(modules), table, which)
    shape = next((part.input_shape for part in parts if part.input_shape is not None), None)
    table = None if table is None else table.iloc[rows].reset_index(drop=True)
    return Members([modules[k] for k in rows], table, next(iter(known.values()), None), shape)


def _rows(count: int, table: pd.DataFrame | None, which: Any) -> np.ndarray:
    """The positions of the members chosen."""
    if isinstance(which, str) and table is None:
        raise ModelspaceError("no table tells these members apart: choose them by position")
    try:
        if table is not None and isinstance(which, str):
            return np.asarray(table.query(which).index, dtype=int)
        index = slice(None) if which is None else which
        if not isinstance(index, slice):
            index = np.asarray(index) if np.size(index) else slice(0)
        return np.arange(count)[index].reshape(-1)
    except Exception as error:
        columns = "" if table is None else f" (columns: {', '.join(map(str, table.columns))})"
        raise ModelspaceError(f"members={which!r} of {count}: {first_line(error)}{columns}") from error


def _loss_of(run: Run, table: pd.DataFrame) -> Loss | None:
    """What a run's members were trained for; None of a function of the user's."""
    names = [*dict.fromkeys(map(str, table["loss"]))] if "loss" in table else [str(run.settings.get("loss"))]
    if len(names) > 1:
        raise _several(names)
    with suppress(ModelspaceError):
        return losses.resolve(names[0])
    with suppress(ModelspaceError, TypeError, AttributeError):  # a module of PyTorch's goes by its class
        return losses.resolve(getattr(nn, names[0])())
    return None


def _several(names: Sequence[str]) -> ModelspaceError:
    return ModelspaceError(
        f"members were trained for {len(names)} losses ({', '.join(names)}): choose those of one, "
        f"members=\"loss == '{names[0]}'\", or give loss=, by which all are read"
    )
