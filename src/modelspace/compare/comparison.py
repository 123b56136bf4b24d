"""``compare``: are two networks of the same space, are they the same point, and how different are they?"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from modelspace import losses
from modelspace.engine import members_scores, probe
from modelspace.errors import ModelspaceError
from modelspace.geometry import slices
from modelspace.losses import Loss, Objective
from modelspace.nest import Nest, on, samples, tensors
from modelspace.population import Population, population_of
from modelspace.space import Layout, ModelSpace, layout_of, samples_as


class BlockDistance(NamedTuple):
    """How far apart two points are in one block of coordinates.

    Attributes:
        name: The block.
        l2: ‖a − b‖₂.
        relative: ‖a − b‖ over the mean of ‖a‖ and ‖b‖; 0 for equal, 2 for opposite, about √2 for independent.
        cosine: a·b / (‖a‖ ‖b‖), in [−1, 1]; NaN where one is zero.
    """

    name: str
    l2: float
    relative: float
    cosine: float


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two networks held against each other.

    Attributes:
        names: What the two are called.
        same_space: Whether the trainable parameters agree in names and shapes, the frozen ones in value, and the
            modules in type and arguments. What a ``forward`` does beside calling them can't be seen.
        differences: Where they differ, one sentence each.
        same_point: Whether all coordinates and buffers are equal, bit for bit; None in different spaces.
        distance: Over all coordinates; None in different spaces.
        blocks: The same, block by block.
        inputs: How many inputs the functions were compared on; 0 for none.
        output_distance: Root mean square of f_a(x) − f_b(x) over inputs and outputs, in the outputs' unit; None
            without inputs, or where the outputs' shapes differ.
        output_scale: Root mean square of the two functions' outputs about their own means, for comparison.
        disagreement: Share of inputs for which the predicted classes differ; None where outputs are no scores.
        path: α from 0 (a) to 1 (b); empty without labels.
        path_losses: The loss at (1 − α)a + αb.
        barrier: The largest rise of the path above the straight line between its ends, at least 0; None without path.
        loss: The loss's name.
    """

    names: tuple[str, str]
    same_space: bool
    differences: tuple[str, ...]
    same_point: bool | None
    distance: BlockDistance | None
    blocks: tuple[BlockDistance, ...]
    inputs: int
    output_distance: float | None
    output_scale: float | None
    disagreement: float | None
    path: tuple[float, ...]
    path_losses: tuple[float, ...]
    barrier: float | None
    loss: str | None

    def __repr__(self) -> str:
        return "\n".join(f"{name:<14}{value}" for name, value in self.rows())

    def rows(self) -> list[tuple[str, str]]:
        """The comparison as (what, value) pairs for a reader."""
        a, b = self.names
        if not self.same_space:
            rows = [("space", f"{a} and {b} are points of different spaces")]
            rows += [("", difference) for difference in self.differences]
        elif self.same_point:
            rows = [("space", "the same"), ("point", "the same, bit for bit")]
        else:
            rows = [("space", "the same"), ("point", "different")]
        if self.distance is not None and not self.same_point:
            d = self.distance
            rows.append(("parameters", f"L2 {d.l2:.4g}, relative {d.relative:.3f}, cosine {d.cosine:+.3f}"))
        if self.output_distance is not None:
            scale = f" (the outputs' own spread is {self.output_scale:.4g})" if self.output_scale else ""
            rows.append(
                ("outputs", f"RMS distance {self.output_distance:.4g} on {self.inputs} inputs{scale}")
            )
        if self.disagreement is not None:
            rows.append(("predictions", f"differ on {100 * self.disagreement:.1f} % of {self.inputs} inputs"))
        if self.barrier is not None:
            rows.append(
                (
                    "line between",
                    f"{self.loss} {self.path_losses[0]:.4g} → {max(self.path_losses):.4g} at its highest → "
                    f"{self.path_losses[-1]:.4g}; barrier {self.barrier:.4g}",
                )
            )
        return rows

    def _repr_html_(self) -> str:
        cells = "".join(f"<tr><th>{escape(n)}</th><td>{escape(v)}</td></tr>" for n, v in self.rows())
        return f"<table>{cells}</table>"


def compare(
    first: nn.Module,
    second: nn.Module,
    *,
    inputs: Nest = None,
    labels: Nest = None,
    loss: str | Loss | Callable[[Any, Any], Tensor] = "cross_entropy",
    points: int = 21,
    names: tuple[str, str] = ("a", "b"),
    space: ModelSpace | None = None,
) -> Comparison:
    """Hold two networks against each other, as points and as functions.

    Args:
        first: One network.
        second: The other, of the same architecture or of any other with the same inputs.
        inputs: ``[N, …]``, or a nest: the outputs are compared on these, in evaluation mode.
        labels: With inputs: the loss along the straight line between the two points is measured.
        loss: Which loss; or an ``Objective``, of inputs and labels or of inputs alone.
        points: How many points of the line, both ends included, at least 2.
        names: What to call the two.
        space: Their space, where it is known.

    Returns:
        The comparison.

    Raises:
        ModelspaceError: labels without inputs, too few points, or inputs that do not fit.

    Example:
        >>> import copy
        >>> net1, net2 = nn.Linear(4, 3), nn.Linear(4, 3)
        >>> compare(net1, net2).same_space, compare(net1, net2).same_point
        (True, False)
        >>> compare(net1, copy.deepcopy(net1)).same_point
        True
    """
    for which, given in zip(names, (first, second), strict=True):
        if not isinstance(given, nn.Module):
            raise ModelspaceError(_no_network(which, given))
    if labels is not None and inputs is None:
        raise ModelspaceError("labels need inputs: give both, or neither")
    if points < 2:
        raise ModelspaceError(f"a line has at least its 2 ends; received points={points}")
    first, second = _on_the_cpu(first), _on_the_cpu(second)
    inputs, labels = (None if given is None else on("cpu", given) for given in (inputs, labels))
    layouts = layout_of(first), layout_of(second)
    differences = _differences(*layouts, names)
    own = () if space is None else space.own_frozen
    differences = (
        differences or _frozen_differences(first, second, names, own) or _unlike(first, second, names)
    )
    population = None
    same_point, distance, blocks = None, None, ()
    path, path_losses, barrier = (), (), None
    if not differences:
        population = population_of([first, second], space)
    if population is not None:
        a, b = population.points.to(torch.promote_types(population.points.dtype, torch.float64))
        same = torch.equal(population.points[0], population.points[1])
        same_point = same and all(torch.equal(v[0], v[1]) for v in population.buffers.values())
        distance = _distance("all", a, b)
        blocks = tuple(_distance(k.name, a[k.start : k.stop], b[k.start : k.stop]) for k in layouts[0])
    output_distance = output_scale = disagreement = None
    if inputs is not None:
        inputs = samples_as(inputs, layouts[0].dtype)
        z, w = (
            _outputs(net, samples_as(inputs, own.dtype), loss)
            for net, own in zip((first, second), layouts, strict=True)
        )
        if z is not None and w is not None:
            output_distance, output_scale, disagreement = _output_differences(z, w)
    whole = labels is not None or isinstance(loss, Objective)
    objective = losses.resolve(loss) if whole else None
    if population is not None and inputs is not None and objective is not None:
        alphas = np.linspace(0, 1, points)
        found = np.full(points, np.nan)  # of a point that is no number all of the line is none
        if bool(population.points.isfinite().all()):
            line = slices.polychain(population).population(alphas)
            found = members_scores(line, inputs, labels, {"loss": objective})[:, 0].cpu().numpy()
        chord = (1 - alphas) * found[0] + alphas * found[-1]
        path, path_losses = tuple(alphas.tolist()), tuple(found.tolist())
        barrier = float(max(0.0, np.max(found - chord)))
    return Comparison(
        names,
        not differences,
        differences,
        same_point,
        distance,
        blocks,
        0 if inputs is None else samples(inputs),
        output_distance,
        output_scale,
        disagreement,
        path,
        path_losses,
        barrier,
        objective.name if objective is not None and path else None,
    )


def _no_network(which: str, given: Any) -> str:
    """Say what was given in a network's place, and where its networks are."""
    if isinstance(given, nn.Module | type) or not hasattr(given, "population"):
        member = "population.module(0)" if isinstance(given, Population) else "an nn.Module"
    else:
        member = "run.population.module(0); the scores of two runs are in their tables, run.table"
    return f"two networks are compared, and {which} is a {type(given).__name__}: give {member}"


def _on_the_cpu(network: nn.Module) -> nn.Module:
    """The network; a copy of one that is on a GPU."""
    held = (*network.parameters(), *network.buffers())
    away = any(tensor.device.type not in ("cpu", "meta") for tensor in held)
    return copy.deepcopy(network).cpu() if away else network


def _distance(name: str, a: Tensor, b: Tensor) -> BlockDistance:
    l2 = float((a - b).norm())
    norms = float(a.norm()), float(b.norm())
    mean = sum(norms) / 2
    # Of complex coordinates the real part: that of two real ones each.
    cosine = float(torch.vdot(a, b).real) / (norms[0] * norms[1]) if all(norms) else float("nan")
    return BlockDistance(name, l2, l2 / mean if mean else 0.0, max(-1.0, min(1.0, cosine)))


def _differences(first: Layout, second: Layout, names: tuple[str, str]) -> tuple[str, ...]:
    shapes = {b.name: b.shape for b in first}, {b.name: b.shape for b in second}
    found = [f"only {names[0]} has {n} {s}" for n, s in shapes[0].items() if n not in shapes[1]]
    found += [f"only {names[1]} has {n} {s}" for n, s in shapes[1].items() if n not in shapes[0]]
    found += [
        f"{n} is {s} in {names[0]} and {shapes[1][n]} in {names[1]}"
        for n, s in shapes[0].items()
        if n in shapes[1] and shapes[1][n] != s
    ]
    if not found and dict(first.tied) != dict(second.tied):
        found.append(
            f"tied parameters are {dict(first.tied)} in {names[0]} and {dict(second.tied)} in {names[1]}"
        )
    return tuple(found)


def _frozen_differences(
    first: nn.Module, second: nn.Module, names: tuple[str, str], own: tuple[str, ...]
) -> tuple[str, ...]:
    """Frozen parameters are part of what a space is: other values make another one, but for each point's own."""
    a, b = ({n: p for n, p in m.named_parameters() if not p.requires_grad} for m in (first, second))
    found = [f"only {names[0]} has frozen {n}" for n in a if n not in b]
    found += [f"only {names[1]} has frozen {n}" for n in b if n not in a]
    found += [
        f"frozen {n} has other values in {names[0]} than in {names[1]}"
        for n in a
        if n in b and n not in own and not torch.equal(a[n], b[n].to(a[n].device))
    ]
    return tuple(found)


def _unlike(first: nn.Module, second: nn.Module, names: tuple[str, str]) -> tuple[str, ...]:
    """Where two architectures of one layout are not the same modules: a Tanh in a ReLU's place."""
    mine, other = ({n: _describe(m) for n, m in net.named_modules()} for net in (first, second))
    return tuple(
        f"{name or 'the module itself'} is {mine.get(name, 'missing')} in {names[0]} "
        f"and {other.get(name, 'missing')} in {names[1]}"
        for name in {**mine, **other}
        if mine.get(name) != other.get(name)
    )


def _describe(module: nn.Module) -> str:
    arguments = [part for part in module.extra_repr().split(", ") if part and not part.startswith("inplace")]
    return f"{type(module).__name__}({', '.join(arguments)})"


def _outputs(network: nn.Module, inputs: Nest, loss: Any) -> Tensor | None:
    """A network's outputs, ``[N, …]``; of several tensors ``[N]`` of all their numbers, and of none None.

    An objective need not call the network with its inputs: then there is nothing to compare.
    """
    try:
        outputs = probe(network, inputs)
    except ModelspaceError:
        if isinstance(loss, Objective):
            return None
        raise
    if isinstance(outputs, Tensor):
        return outputs
    parts = [part for part in tensors(outputs) if part.shape[:1] == (samples(inputs),)]
    return torch.cat([part.reshape(len(part), -1).double() for part in parts], 1) if parts else None


def _output_differences(a: Tensor, b: Tensor) -> tuple[float | None, float | None, float | None]:
    if a.shape != b.shape:
        return None, None, None
    a, b = (z.to(torch.promote_types(z.dtype, torch.float64)) for z in (a, b))
    distance = float((a - b).abs().square().mean().sqrt())
    scale = float(
        ((a - a.mean(0)).abs().square().mean() / 2 + (b - b.mean(0)).abs().square().mean() / 2).sqrt()
    )
    disagreement = None
    if a.dim() >= 2 and a.shape[1] >= 2 and not a.is_complex():
        disagreement = float((a.argmax(1) != b.argmax(1)).double().mean())
    return distance, scale, disagreement
