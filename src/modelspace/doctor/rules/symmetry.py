"""Units of a layer that start equal and stay so: however many they are, they count as one."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from modelspace.doctor.rule import Inapplicable, Seen, listed, rule
from modelspace.doctor.samples import seed_all
from modelspace.doctor.subject import Subject
from modelspace.doctor.trace import output_of, place
from modelspace.errors import first_line

# Zeroed branches, gates and heads wait for each other: the layer behind two of them moves in the third step.
_STEPS, _BATCH = 5, 16
# The length of a step, as a share of the parameters' own.
_STEP = 0.05
# Units of other outgoing weights move by other amounts; equal ones differ by rounding, of a few 1e-7. What moves
# less than the floor, against the parameter's largest movement, is rounding itself.
_TOLERANCE, _FLOOR = 1e-4, 1e-3
_NAMED = 4


class _Slices(NamedTuple):
    """One matrix of parameters, seen as units: slices along an axis, with their values at the start."""

    path: str
    layer: nn.Module
    name: str
    parameter: nn.Parameter
    axis: int
    start: Tensor
    groups: list[Tensor]


@rule("warning")
def equal_units(subject: Subject) -> Seen:
    """Units of a layer start equal and stay equal: together they are one."""
    # In evaluation mode: dropout drives equal units apart by chance, which is no initialisation.
    module = subject.fresh()
    candidates = list(_starting_equal(module))
    if not candidates:
        return
    _descend(subject, module)
    found: dict[str, tuple[_Slices, int, int]] = {}
    for slices in candidates:
        moved = _rows(slices.parameter, slices.axis) - slices.start
        sizes = moved.abs().amax(1)
        groups = [
            group
            for start in slices.groups
            for group in _alike(moved[start], _TOLERANCE)
            if float(sizes[start[group]].min()) > _FLOOR * float(sizes.max())
        ]
        count = sum(len(group) for group in groups)
        if count and count > found.get(slices.path, (slices, 0, 0))[1]:
            found[slices.path] = (slices, count, len(groups))
    if found:
        layers = [place(path, slices.layer) for path, (slices, _, _) in found.items()]
        described = [_described(*each) for each in found.values()]
        where, evidence = (listed(parts, _NAMED, apart="; ", kind=" layers") for parts in (layers, described))
        steps = f"{_STEPS} steps of gradient descent"
        yield (
            where,
            f"{evidence}: they start equal, get equal gradients and are equal after {steps}",
            "nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5))     # every unit its own values\n"
            "nn.init.zeros_(layer.bias)     # biases may start equal, weights may not",
        )


def _described(slices: _Slices, count: int, groups: int) -> str:
    kind = {0: "rows", 1: "columns"}.get(slices.axis, f"slices along dimension {slices.axis}")
    return f"{count} of {len(slices.start)} {kind} of {slices.name}, which count as {groups}"


def _starting_equal(module: nn.Module) -> Iterator[_Slices]:
    """Yield matrices of trained parameters in which two slices or more are the same."""
    seen: set[int] = set()
    for path, layer in module.named_modules():
        for own, parameter in layer.named_parameters(recurse=False):
            if id(parameter) in seen or parameter.ndim < 2 or not parameter.requires_grad:
                continue
            seen.add(id(parameter))
            for axis in _unit_axes(layer, parameter):
                if parameter.shape[axis] < 2 or not parameter.numel():
                    continue
                start = _rows(parameter, axis).clone()
                groups = _alike(start, 0.0)
                if groups:
                    name = ".".join(filter(None, (path, own)))
                    yield _Slices(path, layer, name, parameter, axis, start, groups)


def _unit_axes(layer: nn.Module, parameter: Tensor) -> tuple[int, ...]:
    """Return the axes of a parameter's units: each dimension of a matrix that the user multiplies by."""
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag | nn.modules.conv._ConvTransposeNd):
        return (1,)
    if type(layer).__module__.startswith("torch.nn.modules"):
        return (0,)
    # Positions, tokens, gates and biases of any shape begin at 0, and are not units.
    return tuple(range(parameter.ndim)) if bool(parameter.detach().any()) else ()


def _rows(parameter: Tensor, axis: int) -> Tensor:
    rows = parameter.detach().movedim(axis, 0).flatten(1)
    return torch.view_as_real(rows).flatten(1).float() if rows.is_complex() else rows.float()


def _alike(rows: Tensor, tolerance: float) -> list[Tensor]:
    """Return the indices of the rows that are equal, in groups: up to a share of their own largest number."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(rows.shape[1], generator=generator)
    along, order = (rows @ direction).sort()
    # Rows that are far apart along a random direction are not equal; those that are near it are compared.
    near = along.diff() <= (4 * tolerance + 1e-6) * rows.norm(dim=1)[order][1:]
    groups, begin = [], 0
    for end in [*(torch.nonzero(~near).flatten() + 1).tolist(), len(rows)]:
        left = order[begin:end]
        while len(left) > 1:
            first = rows[left[0]]
            apart = (rows[left] - first).abs().amax(1)
            same = apart <= tolerance * float(first.abs().max())
            same[0] = True  # a row of NaN is not even equal to itself
            if int(same.sum()) > 1:
                groups.append(left[same].sort().values)
            left = left[~same]
        begin = end
    return groups


def _descend(subject: Subject, module: nn.Module) -> None:
    """Take a few steps towards random outputs, so that every output has an error of its own."""
    inputs = subject.inputs(subject.affordable(_BATCH, 3 * _STEPS))
    parameters = [p for p in module.parameters() if p.requires_grad]
    target: Tensor | None = None
    for _ in range(_STEPS):
        module.zero_grad()
        seed_all(subject.seed)
        try:
            outputs = output_of(module(inputs))
            if target is None:
                spread = outputs.detach().abs().max().clamp(min=1e-3)
                target = outputs.detach() + spread * torch.randn_like(outputs)
            (outputs - target).abs().square().mean().backward()
        except Exception as error:
            why = f"the backward fails, which other rules look at: {first_line(error)}"
            raise Inapplicable(why) from None
        moved = [p for p in parameters if p.grad is not None]
        with torch.no_grad():
            slope = math.sqrt(sum(float(p.grad.abs().square().sum()) for p in moved if p.grad is not None))
            size = math.sqrt(sum(float(p.abs().square().sum()) for p in moved)) or 1.0
            if not 0 < slope < math.inf or not math.isfinite(size):
                raise Inapplicable("its gradient is 0 or not finite, which other rules look at")
            for p in moved:
                p.sub_(p.grad, alpha=_STEP * size / slope)  # pyright: ignore[reportArgumentType]
