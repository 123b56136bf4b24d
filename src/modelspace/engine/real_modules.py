"""Real modules: built by the user's own callable with their own seed, and run and trained as anyone would.

A real module is left alone. Only where it draws from PyTorch's generator is that seen afterwards, and what was done
is done once more from the start, with a mode around it that makes its numbers the member's own.
"""

import random
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from modelspace.construction import is_lazy, seeded, seeded_elsewhere
from modelspace.engine.function import Work
from modelspace.engine.gradient import Score, at, work_of
from modelspace.engine.lowerings import lowered
from modelspace.engine.lowerings.surroundings import swapped
from modelspace.engine.randomness import Draws, evaluation_draws, stream_seed
from modelspace.errors import ModelspaceError, at_line, first_line, users_line
from modelspace.nest import Nest, called, device_of, mapped, only_tensors
from modelspace.population import Population
from modelspace.processes import is_out_of_memory
from modelspace.space import ModelSpace
from modelspace.trace import explained

_MOVED = 1e-2  # of the point's norm, from one batch to the next


class Trial(NamedTuple):
    """What is computed both ways.

    Attributes:
        population: One or two members.
        loss: The loss.
        batches: Inputs and labels of each step.
        seeds: What the members' random numbers are a function of.
        terms: The loss's columns, ``[c]`` each.
    """

    population: Population
    loss: Score
    batches: Sequence[tuple[Nest, Nest]]
    seeds: Sequence[int]
    terms: Mapping[str, Float[Tensor, "member"]]


class State(NamedTuple):
    """Parameters, frozen ones included, and buffers of a module, copied."""

    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]


class Passed(NamedTuple):
    """What a real module did with one batch.

    Attributes:
        before: Its state before the forward.
        after: Its state after the backward.
        value: The loss.
        gradient: Of each trainable parameter; None where it took no part.
        hooks: The lines at which the forward registered hooks on activations.
        attributes: What other state it changed, by name.
        counters: Those of them that are numbers or generators.
        elsewhere: The generators outside PyTorch that it drew from.
    """

    before: State
    after: State
    value: Tensor
    gradient: dict[str, Tensor | None]
    hooks: list[str]
    attributes: tuple[str, ...]
    counters: list[str]
    elsewhere: list[str]


def plainly(space: ModelSpace, seed: int) -> nn.Module:
    """Do what anyone would write: seed PyTorch, Python and NumPy, then call the class or factory."""
    source = space.architecture
    assert not isinstance(source, nn.Module)
    with seeded(seed), seeded_elsewhere(seed):
        module = source(**space.hyperparameters)
        if any(p.dtype != space.dtype for p in module.parameters() if p.requires_grad):
            module = module.to(space.dtype)
        if is_lazy(module) and space.input_shape is not None:
            module.eval()(torch.zeros(1, *space.input_shape, dtype=space.sample_dtype))
    return space.apart(module).train()


@contextmanager
def real_module(population: Population, k: int) -> Iterator[nn.Module]:
    """Build member k by the user's own callable; of a module given, take that module itself, restored after."""
    space, source = population.space, population.space.architecture
    buffers = {name: value[k] for name, value in population.buffers.items()}
    if not isinstance(source, nn.Module):
        seed = int(population.table["seed"].iloc[k]) if "seed" in population.table else 0
        module = plainly(space, seed).to(population.device)
        space.write(module, population.points[k], buffers)
        yield module
    elif is_lazy(source):
        yield population.module(k)
    else:
        with _restored(source):
            source.to(population.device, space.dtype)
            space.write(source, population.points[k], buffers)
            yield source


@contextmanager
def _restored(module: nn.Module) -> Iterator[None]:
    """Leave the module's tensors, gradients and modes after the block as they were before."""
    tensors = [*module.parameters(), *module.buffers()]
    held = [(tensor, tensor.data, tensor.grad) for tensor in tensors]
    layers = [(layer, layer.training, dict(layer._buffers)) for layer in module.modules()]
    for tensor in tensors:
        tensor.data, tensor.grad = tensor.data.clone(), None
    try:
        yield
    finally:
        for tensor, data, grad in held:
            tensor.data, tensor.grad = data, grad
        for layer, training, buffers in layers:
            layer.training = training
            layer._buffers.update(buffers)


def evaluated(module: nn.Module, inputs: Nest, work: Work = called) -> tuple[Nest, list[str]]:
    """Return a real module's outputs in evaluation mode, and the generators outside PyTorch that it drew from.

    Args:
        module: It.
        inputs: What it is given.
        work: What is computed with both, an objective for instance, which may differentiate.
    """
    device = device_of(inputs)
    draws = evaluation_draws(device)
    seed = stream_seed(int(draws.seed), int(draws.step), 0)
    module.eval()
    for mode in (nullcontext(), lowered(draws, batched=False)):
        before = _generators(device)
        with (
            torch.random.fork_rng(_cards(device)),
            torch.set_grad_enabled(work is not called),
            seeded_elsewhere(seed) as drew,
        ):
            with mode:
                outputs = work(module, mapped(Tensor.clone, inputs))
            if _generators(device) == before:
                break
    return mapped(Tensor.detach, only_tensors(outputs)), drew


def observed(trial: Trial) -> list[list[Passed]]:
    """Train every member as a real module on the batches; nobody's generators are disturbed."""
    members: list[list[Passed]] = []
    device, matched = trial.population.device, False
    for k, seed in enumerate(trial.seeds):
        loss = at(trial.loss, {name: column[k] for name, column in trial.terms.items()})
        steps = None
        with torch.random.fork_rng(_cards(device)):
            while steps is None:
                with real_module(trial.population, k) as module:
                    steps = _observed(module, loss, trial.batches, seed, matched)
                matched = matched or steps is None
        members.append(steps)
    return members


def _observed(
    module: nn.Module, loss: Score, batches: Sequence[tuple[Nest, Nest]], seed: int, matched: bool
) -> list[Passed] | None:
    """Train a real module on some batches; None where it was left alone and drew from PyTorch's generator."""
    steps = []
    module.train()
    for number, (inputs, labels) in enumerate(batches):
        before, held = state_of(module), attributes_of(module)
        device = device_of(inputs)
        draws = Draws(torch.tensor(seed, device=device), torch.tensor(number, device=device))
        with _hooks_noted() as hooks, seeded_elsewhere(stream_seed(seed, number, 0)) as elsewhere:
            generators = _generators(device)
            try:
                with lowered(draws, batched=False) if matched else nullcontext():
                    outputs = work_of(loss, labels)(module, mapped(Tensor.clone, inputs))
            except Exception as error:
                if isinstance(error, ModelspaceError) or is_out_of_memory(error):
                    raise
                raise explained(error, module, inputs) from error
            if not matched and _generators(device) != generators:
                return None
        value = loss(outputs, labels)
        try:
            value.backward()
        except Exception as error:
            if isinstance(error, ModelspaceError) or is_out_of_memory(error):
                raise
            line = at_line(error) or _failing_line(module, loss, inputs, labels)
            raise ModelspaceError(
                f"{type(module).__name__}: its backward fails: {type(error).__name__}: "
                f"{first_line(error).partition(' Hint:')[0]}{line}"
            ) from error
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        gradient = {name: None if p.grad is None else dense(p.grad) for name, p in trained.items()}
        changed = differing(held, attributes_of(module))
        counters = [name for name in changed if _counts(module, name)]
        after = state_of(module), value.detach(), gradient
        steps.append(Passed(before, *after, hooks, changed, counters, elsewhere))
        _move(trained, gradient)
    return steps


_FORWARD_CALL = re.compile(r'File "(.*)", line (\d+), in (.*)\n\s*(.*)')


def _failing_line(module: nn.Module, loss: Score, inputs: Nest, labels: Nest) -> str:
    """Name the line of the forward whose backward fails, as the end of a message: PyTorch keeps it when asked to."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with torch.autograd.detect_anomaly(check_nan=False):
                loss(work_of(loss, labels)(module, mapped(Tensor.clone, inputs)), labels).backward()
        except Exception:
            pass
    for call in (_FORWARD_CALL.findall(str(each.message)) for each in caught):
        frames = [traceback.FrameSummary(f, int(n), name, line=code) for f, n, name, code in call]
        if line := users_line(frames):
            return f"; at {line}"
    return ""


def _move(parameters: Mapping[str, nn.Parameter], gradient: Mapping[str, Tensor | None]) -> None:
    """Go a little down the slope, so that the next batch meets another point."""
    size = sum(float(p.detach().abs().square().sum()) for p in parameters.values()) ** 0.5
    slope = sum(float(g.abs().square().sum()) for g in gradient.values() if g is not None) ** 0.5
    rate = _MOVED * size / slope if 0 < slope < float("inf") else 0.0
    with torch.no_grad():
        for name, parameter in parameters.items():
            if (own := gradient[name]) is not None:
                parameter.sub_(own, alpha=rate)
            parameter.grad = None


def state_of(module: nn.Module) -> State:
    """Copy all parameters and buffers."""
    return State(
        {name: p.detach().clone() for name, p in module.named_parameters()},
        {name: b.detach().clone() for name, b in module.named_buffers()},
    )


def dense(value: Tensor) -> Tensor:
    """Copy a tensor apart from any graph, dense."""
    return value.detach().clone() if value.layout is torch.strided else value.detach().to_dense()


def _cards(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []


def _generators(device: torch.device) -> list[bytes]:
    states = [torch.get_rng_state(), *(torch.cuda.get_rng_state(card) for card in _cards(device))]
    return [state.numpy().tobytes() for state in states]


@contextmanager
def _hooks_noted() -> Iterator[list[str]]:
    """Note the lines at which hooks on activations are registered within the block."""
    lines: list[str] = []
    register = Tensor.register_hook

    def noted(self: Tensor, hook: Callable[..., Any]) -> Any:
        if not self.is_leaf and (line := users_line(traceback.extract_stack())):
            lines.append(line)
        return register(self, hook)

    with swapped((Tensor, "register_hook", noted)):
        yield lines


# State that is neither parameter nor buffer

_MODULE_S = frozenset(vars(nn.Module()))


def attributes_of(module: nn.Module) -> dict[str, Any]:
    """Return what a network holds beside parameters and buffers, comparable, by name."""
    return {
        f"{name}.{key}" if name else key: _comparable(value)
        for name, layer in module.named_modules()
        for key, value in vars(layer).items()
        if key not in _MODULE_S
    }


def _counts(module: nn.Module, name: str) -> bool:
    """Tell whether an attribute is a number or a generator: a tensor is most often an activation kept to look at."""
    layer, _, key = name.rpartition(".")
    value = vars(module.get_submodule(layer)).get(key)
    generators = (random.Random, np.random.Generator, np.random.RandomState, torch.Generator)
    return isinstance(value, (int, float, np.number, np.ndarray, *generators)) and not isinstance(value, bool)


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the attributes that differ."""
    return tuple(name for name in {**first, **second} if first.get(name) != second.get(name))


def _comparable(value: Any, depth: int = 0) -> Any:
    """Copy a value such that it can be compared; take the type alone of what can't be looked into."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    if isinstance(value, Tensor):
        numbers = None if value.is_meta else dense(value).reshape(-1)[:4096]
        return (tuple(value.shape), str(value.dtype), repr(None if numbers is None else numbers.tolist()))
    if isinstance(value, np.ndarray):
        return (value.shape, value.dtype.str, None if value.dtype == object else value.tobytes())
    if isinstance(value, random.Random):
        return repr(value.getstate())
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return repr(value.get_state())
    if isinstance(value, torch.Generator):
        return value.get_state().tolist()
    if depth < 3 and isinstance(value, list | tuple | set | frozenset):
        return [_comparable(item, depth + 1) for item in value]
    if depth < 3 and isinstance(value, dict):
        return {repr(key): _comparable(item, depth + 1) for key, item in value.items()}
    return type(value).__qualname__
