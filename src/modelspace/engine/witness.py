"""Real modules beside the engine, before a run trusts it.

The engine computes f_p by putting a member's numbers into one module of the space. That is the user's network only if
it is a function of parameters, buffers, batch and random numbers. A hook on an activation, a counter kept as an
attribute, a random matrix that is no buffer are not seen through ``vmap``, or not at all. So the first batches of a
run are computed by real modules too, and from every state that they pass through the engine has to arrive where they
do; where ``vmap`` doesn't, members are computed one at a time, and where not even that does, the run is refused.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from modelspace.construction import same
from modelspace.engine.function import Function, Verdict, Work, stacked_outputs
from modelspace.engine.gradient import Batch, Gradient, loop_gradient, vmap_gradient
from modelspace.engine.lowerings import without_fast_paths
from modelspace.engine.plan import no_batched_form
from modelspace.engine.real_modules import (
    Passed,
    State,
    Trial,
    attributes_of,
    differing,
    evaluated,
    observed,
    real_module,
    state_of,
)
from modelspace.errors import ModelspaceError
from modelspace.losses import Objective
from modelspace.nest import Nest, called, mapped, stacked, take, tensors
from modelspace.population import Population
from modelspace.space import ModelSpace

_TRIED = 4  # samples on which outputs in evaluation mode are held against real modules

# Relative to a block's norm, and to that of the whole: a block of rounding noise is not a difference. What a network
# makes more of in float32 is looked at again in float64.
_TOLERANCES = {torch.float64: (1e-6, 1e-9), torch.float32: (1e-4, 1e-5)}
_COARSE = (0.2, 1e-2)
_BUFFER = "register it as a buffer (self.register_buffer)"


def witnessed(function: Function, trial: Trial, *, batched: bool = True) -> Verdict:
    """Hold the engine against real modules, from every state that they pass through; tell it what they do.

    Args:
        function: The engine's.
        trial: What is computed both ways.
        batched: Whether ``vmap`` is held against them too. Where it isn't, it must not be taken.
    """
    space, members = function.space, observed(trial)
    steps = [step for member in members for step in member]
    elsewhere = tuple(sorted({name for step in steps for name in step.elsewhere}))
    function.trust(Verdict(written=_written(space, steps), elsewhere=elsewhere))
    why = _misplaced(space, steps)
    if why is None and (parted := _parted(function, loop_gradient, trial, members)) is not None:
        why = _refusal(trial, steps, parted)
    if why is not None:
        return Verdict(refused=f"{space.title} can't be a population: {why}")
    why = "it was not tried" if not batched else None
    if elsewhere:
        loss = trial.loss
        who = f"objective '{loss.name}'" if isinstance(loss, Objective) else "the forward"
        why = _shared_generators(elsewhere, who)
    elif batched:
        why = _unbatched(function, trial, members)
    counters = tuple(dict.fromkeys(name for step in steps for name in step.counters))
    return Verdict(None, why, function.written, elsewhere, counters)


def unbatched_outputs(function: Function, population: Population, inputs: Nest) -> str | None:
    """Say why a population's outputs in evaluation mode can't be computed under ``vmap``; None where they can.

    Args:
        function: What is to compute them; it is told what the forward writes and draws.
        population: K ≥ 1 members.
        inputs: Samples, of which a few are tried.

    Raises:
        ModelspaceError: not even one member at a time is what the user's own module computes.
    """
    members, few = first_and_last(population), take(inputs, slice(_TRIED))
    given = members.points.clone(), members.buffers, few
    compute = partial(stacked_outputs, function, *given)
    return unbatched(function, members, few, [called] * len(members), compute)


def first_and_last(population: Population) -> Population:
    """Return the members of a population that stand for all."""
    return population[list(dict.fromkeys([0, len(population) - 1]))]


def unbatched(
    function: Function,
    members: Population,
    inputs: Nest,
    works: Sequence[Work],
    compute: Callable[..., Nest],
    what: str | None = None,
) -> str | None:
    """Say why what is computed of members in evaluation mode can't be under ``vmap``; None where it can.

    Args:
        function: What is to compute it; it is told what the forward writes and draws.
        members: Some.
        inputs: What they are given.
        works: What is computed of each.
        compute: Computes it of all of them, ``batched`` or not.
        what: What messages call it, where it is not the outputs.

    Raises:
        ModelspaceError: not even one member at a time is what the user's own module computes.
    """
    rows = []
    written: set[str] = set()
    elsewhere: set[str] = set()
    for k, work in enumerate(works):
        with real_module(members, k) as module, without_fast_paths():
            before = state_of(module).parameters
            outputs, drew = evaluated(module, inputs, work)
            after = state_of(module).parameters
        rows.append(outputs)
        written |= {name for name, value in before.items() if not same(value, after[name])}
        elsewhere |= set(drew)
    names = tuple(sorted(elsewhere))
    function.trust(Verdict(written=tuple(written), elsewhere=names))
    if _apart(compute(batched=False), rows):
        depends = "its outputs depend" if what is None else f"{what} depends"
        raise ModelspaceError(
            f"{members.space.title} can't be a population: in evaluation {depends} on something that is "
            f"neither parameter nor buffer; {_BUFFER}"
        )
    if names:
        return _shared_generators(names, what or "the forward")
    try:
        batched = compute(batched=True)
    except Exception as error:
        return no_batched_form(error)
    others = "its outputs are others" if what is None else f"{what} is another"
    return f"under vmap {others}" if _apart(batched, rows) else None


def _apart(outputs: Nest, rows: Sequence[Nest]) -> bool:
    """Tell whether members' outputs, stacked, are others than those of real modules."""
    ours, theirs = tensors(outputs), tensors(stacked(rows))
    return len(ours) != len(theirs) or any(
        apart(own, real) for pair in zip(ours, theirs, strict=True) for own, real in zip(*pair, strict=True)
    )


def _shared_generators(names: Sequence[str], who: str) -> str:
    return f"{who} draws from {' and '.join(names)}, which members would share"


def _written(space: ModelSpace, steps: Sequence[Passed]) -> tuple[str, ...]:
    """Name the trainable parameters that are not the same after forward and backward."""
    names = (block.name for block in space.layout)
    return tuple(
        n for n in names if any(not same(s.before.parameters[n], s.after.parameters[n]) for s in steps)
    )


def _misplaced(space: ModelSpace, steps: Sequence[Passed]) -> str | None:
    """Name state that the forward makes and that a point has no place for."""
    for step in steps:
        before, after = step.before.buffers, step.after.buffers
        for name, value in after.items():
            if name not in before:
                return (
                    f"buffer {name} is None before the first forward and a tensor after; register it with its shape, "
                    f"{tuple(value.shape)}, so that a point has a place for it"
                )
            if before[name].shape != value.shape:
                return (
                    f"the forward changes the shape of buffer {name} from {tuple(before[name].shape)} to "
                    f"{tuple(value.shape)}; register it with the shape that it is to have"
                )
            if name not in space.buffer_shapes and not same(before[name], value):
                return f"the forward writes into the sparse buffer {name}; register it dense"
        for name in before.keys() - after.keys():
            return f"the forward removes buffer {name}; fill it with zeros instead"
        for name in space.shared:
            if not same(step.before.parameters[name], step.after.parameters[name]):
                return (
                    f"the forward writes into the frozen parameter {name}, which all points share; register it as a "
                    "buffer, or give ModelSpace(…, input_shape=…), so that this is seen before"
                )
    return None


def _parted(
    function: Function, gradient: Callable[..., Gradient], trial: Trial, members: Sequence[Sequence[Passed]]
) -> str | None:
    """Say in what the engine's steps differ from those of the real modules; None if in nothing."""
    space, device = function.space, trial.population.device
    for i, batch in enumerate(trial.batches):
        steps = [member[i] for member in members]
        rows = [[step.before.parameters[block.name].reshape(-1) for block in space.layout] for step in steps]
        points = torch.stack([torch.cat(row) for row in rows])
        made = gradient(
            function,
            trial.loss,
            points,
            {n: torch.stack([_kept(step.before, n) for step in steps]) for n in space.buffer_shapes},
            Batch(*batch, own=False),
            torch.tensor(list(trial.seeds), device=device),
            torch.tensor(i, device=device),
            None,
            trial.terms,
        )
        for k, step in enumerate(steps):
            used = None if made.used is None else made.used[min(k, len(made.used) - 1)]
            buffers = {name: value[k] for name, value in made.buffers.items()}
            own = Gradient(made.losses[k], made.gradient[k], used, buffers, {})
            why = _difference(space, step, own, points[k])
            if why is not None:
                return why
    return None


def _kept(state: State, name: str) -> Tensor:
    return state.buffers[name] if name in state.buffers else state.parameters[name]


def _difference(space: ModelSpace, step: Passed, made: Gradient, point: Tensor) -> str | None:
    """Say the first of loss, buffers, gradient and what is written in which the two sides differ."""
    if not bool(torch.isfinite(step.value)):
        return "its loss is finite where the module's is not" if bool(torch.isfinite(made.losses)) else None
    if apart(made.losses, step.value):
        return f"its loss is {float(made.losses):.6g} where the module's is {float(step.value):.6g}"
    # One buffer may be nothing but rounding: the running mean of what has mean zero.
    kept = [_kept(step.after, name) for name in made.buffers]
    together = _size([value for value in kept if value.is_floating_point()])
    for name, ours in made.buffers.items():
        if apart(ours, _kept(step.after, name), together):
            return f"buffer {name} is another after the forward"
    whole = _size([g for g in step.gradient.values() if g is not None])
    for block in space.layout:
        at = slice(block.start, block.stop)
        ours, theirs = made.gradient[at].view(block.shape), step.gradient[block.name]
        takes_part = made.used is None or bool(made.used[block.start])
        if (theirs is None) == takes_part:
            return f"{block.name} takes {'' if takes_part else 'no '}part in the loss, unlike in the module's"
        if theirs is not None and apart(ours, theirs, whole):
            return f"the gradient of {block.name} is another"
        if apart(point[at].view(block.shape), step.after.parameters[block.name]):
            return f"another {block.name} is left behind"
    return None


def apart(ours: Tensor, theirs: Tensor, whole: Tensor | None = None) -> bool:
    """Tell whether two tensors differ by more than rounding.

    Args:
        ours: One.
        theirs: The other.
        whole: The norm of what ``theirs`` is a part of, whose size rounding is held against too.
    """
    if ours.shape != theirs.shape:
        return True
    if not ours.is_floating_point() and not ours.is_complex():
        return not torch.equal(ours, theirs)
    relative, absolute = _TOLERANCES.get(ours.dtype.to_real(), _COARSE)
    wide = torch.complex128 if ours.is_complex() else torch.float64
    a, b = (x.detach().to(wide) for x in (ours, theirs))
    finite = b.isfinite()
    if not torch.equal(a.isfinite(), finite):
        return True
    size = b[finite].norm()
    limit = relative * size + absolute * (size if whole is None else whole)
    return bool((a[finite] - b[finite]).norm() > limit)


def _size(parts: Sequence[Tensor]) -> Tensor:
    """Return the norm of the finite numbers of all of these tensors together."""
    norms = [part.detach().to(torch.complex128 if part.is_complex() else torch.float64) for part in parts]
    return torch.stack(
        [torch.zeros((), dtype=torch.float64), *(v[v.isfinite()].norm().cpu() for v in norms)]
    ).norm()


def _unbatched(function: Function, trial: Trial, members: Sequence[Sequence[Passed]]) -> str | None:
    """Say why ``vmap`` doesn't compute these modules; None where it does, or lacks a form, which the plan says."""
    try:
        why = _parted(function, vmap_gradient, trial, members)
    except Exception as error:
        no_batched_form(error)
        return None
    if why is None or _rounding(trial):
        return None
    template = trial.population.space.template
    hooks = [line for member in members for step in member for line in step.hooks]
    layers = [name for name, m in template.named_modules() if m._backward_hooks or m._backward_pre_hooks]
    parameters = [name for name, p in template.named_parameters() if p._backward_hooks]
    if hooks:
        return f"a hook on an activation ({hooks[0]}) is not run under vmap"
    if layers:
        return f"the backward hook of {f'layer {layers[0]}' if layers[0] else 'the network'} is not run under vmap"
    if parameters:
        return f"the hook on parameter {parameters[0]} is not run under vmap"
    return f"under vmap {why}"


def _rounding(trial: Trial) -> bool:
    """Tell whether float64 shows no difference: the network amplifies rounding, and nothing else was seen."""
    population = trial.population
    if population.space.dtype.to_real() is torch.float64:
        return False

    def double(value: Tensor) -> Tensor:
        return value.double() if value.is_floating_point() else value

    try:
        space = population.space.in_dtype(torch.float64)
        buffers = {name: double(value) for name, value in population.buffers.items()}
        trial = Trial(
            Population(space, population.points.double(), buffers, population.table),
            trial.loss,
            [(mapped(double, inputs), mapped(double, labels)) for inputs, labels in trial.batches],
            trial.seeds,
            {name: column.double() for name, column in trial.terms.items()},
        )
        members = observed(trial)
        steps = [step for member in members for step in member]
        function = Function(space, population.device)
        function.trust(Verdict(written=_written(space, steps)))
        return _parted(function, vmap_gradient, trial, members) is None
    except Exception:  # a network of one type only: what was seen stands
        return False


def _refusal(trial: Trial, steps: Sequence[Passed], parted: str) -> str:
    """Say why not even one member at a time is the real module, and what to do."""
    population, loss = trial.population, trial.loss
    changed = list(dict.fromkeys(name for step in steps for name in step.attributes))
    if changed:
        return (
            f"its forward depends on what it keeps in {', '.join(changed[:3])}, neither parameter nor buffer "
            f"({parted}); {_BUFFER}"
        )
    if isinstance(population.space.architecture, nn.Module):
        return (
            f"a copy of it computes something else ({parted}); give its class, or a function that builds it"
        )
    own = attributes_of(population.module(len(population) - 1))
    drawn = differing(attributes_of(population.space.template), own)
    if drawn:
        return (
            f"{', '.join(drawn[:3])} differs from seed to seed and is neither parameter nor buffer; {_BUFFER}"
        )
    if isinstance(loss, Objective):
        return (
            f"objective '{loss.name}' depends on something that it keeps itself, neither parameter nor buffer of the "
            f"model, nor drawn by torch's own generator ({parted}); what it writes and reads again belongs to the "
            "member: register it as a buffer of the model (self.register_buffer)"
        )
    return f"its forward depends on something that is neither parameter nor buffer ({parted}); {_BUFFER}"
