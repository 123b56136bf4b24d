"""``curvature``: how the loss bends at every member at once: eigenvalues, traces, densities, each with its error."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import import_module
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from modelspace import data as datasets
from modelspace import optimizers
from modelspace.engine import SCORED_AT_ONCE, Derivatives, goal_of, terms_of
from modelspace.errors import ModelspaceError, the_users_told, unknown_name
from modelspace.geometry._computed import (
    Asked,
    Shard,
    goal_of_run,
    jobs,
    layers_of,
    moments,
    optimizer_of_run,
)
from modelspace.geometry.association import Association, association
from modelspace.hyperparameters import hyper_columns
from modelspace.losses import Loss
from modelspace.nest import take
from modelspace.optimizers import SGD, Adam, AdamW
from modelspace.population import Population
from modelspace.progress import progress
from modelspace.runs import Run
from modelspace.show import seconds_text

_GRID, _WIDTHS = 400, 100  # points on which a density is given, and its kernel's widths from end to end
_MANY = 200  # calls of a product
_SCALARS = ("least", "least_bound", "trace", "trace_se", "square", "square_se")


class Density(NamedTuple):
    """The spectral densities of all members on one grid of eigenvalues.

    Attributes:
        grid: Eigenvalues, ``[G]``.
        values: Of each member, ``[K, G]``, of area 1: each eigenvalue is widened to a normal.
        se: Of these, over probes.
        width: The normal's standard deviation.
    """

    grid: Float[np.ndarray, "x"]
    values: Float[np.ndarray, "member x"]
    se: Float[np.ndarray, "member x"]
    width: float

    def band(self, level: float = 0.95) -> Float[np.ndarray, "3 x"]:
        """Return the lower quantile, the mean and the upper quantile over members, ``[3, G]``."""
        low, high = np.nanquantile(self.values, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return np.stack([low, np.nanmean(self.values, 0), high])


@dataclass(frozen=True, repr=False, eq=False)
class Curvature:
    """How the loss bends at every member; NaN of what was not asked for, and where products are not finite.

    Attributes:
        title: The space's.
        data: The data's name.
        split: Which split of it.
        samples: Samples that the loss is a mean over; the most of a member's, where they have their own.
        loss: The loss, or the objective.
        operator: ``hessian``, ``gauss-newton`` or ``fisher``.
        members: The members' table; of moments of training, with ``step``, and ``member``, the run's row.
        top: The largest eigenvalues, descending, ``[K, top]``.
        top_bound: ‖Av − λv‖ of each: some eigenvalue is that near.
        least: The smallest eigenvalue, ``[K]``, as is what follows; ``least_bound`` is of it.
        trace: The trace; ``trace_se``, its standard error over probes.
        square: The trace of the square, ‖A‖²_F; ``square_se``, its standard error.
        probes: Random vectors that traces and densities are means over.
        density: The spectral densities; None where they were not asked for.
        layers: The layers' names; empty where they were not asked for.
        by_layer: The trace of each one's block, ``[K, layer]``; their sum is ``trace``.
        by_layer_se: Of these; what layers have with each other adds to it.
        thresholds: The eigenvalue from which the optimizer's steps grow; NaN where it isn't known.
        products: Products of a member's operator with a vector that were computed.
        seconds: Wall time.
        finite: Why products are finite differences of gradients; None where they are exact.
        notes: What a reader has to know, a sentence each.
    """

    title: str
    data: str
    split: str
    samples: int
    loss: str
    operator: str
    members: pd.DataFrame
    top: Float[np.ndarray, "member top"]
    top_bound: Float[np.ndarray, "member top"]
    least: Float[np.ndarray, "member"]
    least_bound: Float[np.ndarray, "member"]
    trace: Float[np.ndarray, "member"]
    trace_se: Float[np.ndarray, "member"]
    square: Float[np.ndarray, "member"]
    square_se: Float[np.ndarray, "member"]
    probes: int
    density: Density | None
    layers: tuple[str, ...]
    by_layer: Float[np.ndarray, "member layer"]
    by_layer_se: Float[np.ndarray, "member layer"]
    thresholds: Float[np.ndarray, "member"]
    products: int
    seconds: float
    finite: str | None
    notes: tuple[str, ...]

    @property
    def table(self) -> pd.DataFrame:
        """The members' table with what was found: ``top``, ``top_2`` …, ``least``, ``trace``, …, ``threshold``."""
        found = {}
        for i in range(self.top.shape[1]):
            name = f"top_{i + 1}" if i else "top"
            found |= {name: self.top[:, i], f"{name}_bound": self.top_bound[:, i]}
        found |= {name: getattr(self, name) for name in _SCALARS}
        for i, layer in enumerate(self.layers):
            found |= {f"trace.{layer}": self.by_layer[:, i], f"trace_se.{layer}": self.by_layer_se[:, i]}
        found["threshold"] = self.thresholds
        return self.members.assign(**{n: values for n, values in found.items() if not np.isnan(values).all()})

    def trace_interval(self, level: float = 0.95) -> Float[np.ndarray, "2 member"]:
        """Return the traces' intervals, ``[2, K]``, by Student's t over the probes."""
        from scipy import stats  # two seconds, which nobody waits for who asks for no interval

        reach = stats.t.ppf((1 + level) / 2, self.probes - 1) * self.trace_se
        return np.stack([self.trace - reach, self.trace + reach])

    def associated(
        self, scores: Any, given: Sequence[str] | None = None, *, of: str = "top", level: float = 0.95
    ) -> Association:
        """Tell whether a score goes with the curvature over the members: are flat minima better here?

        Args:
            scores: One value a member, such as ``ms.evaluate(…)["accuracy"]``; or the name of a column of ``table``.
            given: Columns whose influence on both is taken out; where None, ``lr`` if members differ in it.
            of: A column of ``table``: ``top``, ``trace``, ``square``.
            level: Of the intervals.

        Raises:
            ModelspaceError: fewer than 4 members, an unknown column, or a wrong number of scores.
        """
        table = self.table
        if given is None:
            given = [name for name in ("lr",) if name in table and len(set(table[name])) > 1]
        for name in (of, *given, *([scores] if isinstance(scores, str) else ())):
            if name not in table:
                raise unknown_name("column", name, map(str, table))
        name = scores if isinstance(scores, str) else getattr(scores, "name", None) or "score"
        values = np.asarray(table[scores] if isinstance(scores, str) else scores)
        if values.shape != (len(table),):
            raise ModelspaceError(f"scores are one value a member, {len(table)}; received {values.shape}")
        return association(
            pd.Series(table[of]), pd.Series(values, name=name), table.loc[:, list(given)], level
        )

    def report(self, path: str | os.PathLike[str], *, pictures: str | os.PathLike[str] | None = None) -> None:
        """Write a self-contained HTML page, and its figures as PNG and SVG into the folder ``pictures``.

        Raises:
            ModelspaceError: a place can't be written to.
        """
        import_module("modelspace.report").write_page(self, path, pictures=pictures)

    @property
    def heading(self) -> str:
        """What was computed of what, in one line."""
        return (
            f"{self.operator} of {self.loss} on {self.data} ({self.split}, {self.samples:,} samples) at "
            f"{len(self.members):,} points of {self.title}: {self.products:,} products, {seconds_text(self.seconds)}"
        )

    def __repr__(self) -> str:
        return "\n".join([self.heading, self.table.to_string(max_rows=10), *self.notes])

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        table = self.table.to_html(max_rows=10, escape=True)
        return f"<div><p>{escape(self.heading)}</p>{table}{notes}</div>"


@the_users_told()
def curvature(
    points: Population | Run,
    data: Any,
    *,
    loss: str | Loss | Callable[[Any, Any], Tensor] | None = None,
    objective: Any = None,
    operator: Literal["hessian", "gauss-newton", "fisher"] = "hessian",
    top: int = 5,
    trace: bool = True,
    density: bool = False,
    by_layer: bool = False,
    probes: int = 10,
    samples: int | None = None,
    split: str = "train",
    preconditioner: Float[Tensor, "member parameter"] | None = None,
    optimizer: Any = None,
    record: str | None = None,
    tolerance: float = 1e-3,
    steps: int = 40,
    seed: int = 0,
    batch_size: int = SCORED_AT_ONCE,
    compile: bool | None = None,
) -> Curvature:
    """Compute the curvature of the loss at every member, in evaluation mode.

    Eigenvalues by block Lanczos, so that one of multiplicity up to ``top`` is found as often; the trace exactly on
    the space that this has spanned and by random probes on the rest (Hutch++); the density by stochastic Lanczos
    quadrature. Random numbers are a function of ``seed``, the member's row and the probe's number, however members
    are divided. A member's basis takes up to ``steps · top · n`` numbers, ``64 · n`` for a density: so many members
    are computed at once as half of the free memory holds; where it holds no whole basis, one is shorter.

    Args:
        points: A population; or a run, whose kept members, loss and optimizer are meant.
        data: A ``Data`` or whatever ``modelspace.data.load`` takes.
        loss: As of ``evaluate``; of a run, where None, its own.
        objective: In place of a loss, as of ``fit``.
        operator: The Hessian; the generalised Gauss–Newton matrix; the empirical Fisher matrix, (1/N) Σ gᵢgᵢᵀ.
        top: How many of the largest eigenvalues; 0 for none, and then no least one either.
        trace: Whether to estimate the trace and that of the square.
        density: Whether to estimate the spectral density.
        by_layer: Whether to estimate the trace of each layer's block too.
        probes: Random vectors for traces and densities, 2 or more.
        samples: So many samples of the split, drawn once for all members; all where None.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        preconditioner: D ``[K, n]``, positive: then A is D^{-1/2} A D^{-1/2}; for Adam, D = √v̂ + ε.
        optimizer: What thresholds are of, as of ``fit``; of a run, where None, its own.
        record: Of a run, the name of a record of points: each member at each of its times is a row.
        tolerance: Eigenvalues are there where ‖Av − λv‖ ≤ tolerance · max|λ|, or ``steps`` are made.
        steps: The most blocks of a member.
        seed: Of all random numbers.
        batch_size: Samples in a batch of an objective.
        compile: Whether products are compiled; where it pays if None.

    Returns:
        The curvature. After Ctrl-C, that of the members that were done.

    Raises:
        ModelspaceError: no labels, an unknown split or record, nothing asked for, or a preconditioner that is not
            positive.

    Example:
        >>> import modelspace as ms
        >>> space = ms.ModelSpace(nn.Linear, in_features=1, out_features=1, bias=False, dtype=torch.float64)
        >>> data = ms.data.load((torch.tensor([[1.0], [2.0]]), torch.zeros(2, 1)), splits=(1, 0, 0))
        >>> curvature(space.sample(seeds=2), data, loss="mse", top=1).top.round(6).tolist()
        [[5.0], [5.0]]
    """
    began, data = time.perf_counter(), datasets.load(data)
    if probes < 2 or top < 0 or not (top or trace or density or by_layer):
        raise ModelspaceError(
            f"something is to be computed, with 2 probes or more; received top={top}, trace={trace}, "
            f"density={density}, by_layer={by_layer}, probes={probes}"
        )
    population, notes = points if isinstance(points, Population) else points.population, []
    if isinstance(points, Run):
        optimizer = optimizer_of_run(points) if optimizer is None else optimizer
        given = {"loss": loss, "objective": objective}
        loss, objective = (goal_of_run(points) if loss is None and objective is None else given).values()
        population = population if record is None else moments(points, record)
        if record is not None and population.buffers:
            notes.append(
                "Buffers, such as normalisation statistics, are those of each member at the run's end."
            )
    expected = len(population), max(space.dimension for _, space in population.spaces)
    if preconditioner is not None and not (preconditioner.shape == expected and (preconditioner > 0).all()):
        raise ModelspaceError(
            f"a preconditioner is positive numbers of shape {expected}; received {tuple(preconditioner.shape)}, the "
            f"least {preconditioner.min():g}"
        )
    goal, part = goal_of(population, data, loss, objective), data.part(split)
    asked = Asked(top, trace or by_layer, density, by_layer, probes, tolerance, steps, seed)
    work = list(jobs(population, data, goal, split, samples, seed))
    names = [name for _, space in population.spaces for name in layers_of(space)[0]] if by_layer else []
    members, layers, most = len(population), list(dict.fromkeys(names)), asked.products(expected[1])
    widths = dict.fromkeys(("top", "top_bound"), (top,)) | dict.fromkeys(_SCALARS, ())
    widths |= dict.fromkeys(("by_layer", "by_layer_se"), (len(layers),))
    found = {name: np.full((members, *width), np.nan) for name, width in widths.items()}
    done, nodes, products, why = np.zeros(members, dtype=bool), {}, 0, {}
    with progress(f"curvature of {members:,} members", most * members, "products") as advance:
        try:
            for rows, own, aim, index in work:
                inputs, labels = (take(nest, index) for nest in (part.inputs, part.labels))
                given = {"operator": operator, "compile": compile, "batch_size": batch_size}
                # About half of the most come, some thirty at once. A program is of one number of rows, so that none
                # is compiled for less than many calls: there, filling them up costs little.
                calls = asked.products(own.space.dimension) * len(rows) // 60
                same = compile is True or (compile is None and calls >= _MANY)
                given["calls"] = calls if same else 0
                derivatives = Derivatives(own, inputs, labels, aim, **given)
                why |= {n: said for n in ("finite", "fallback") if (said := getattr(derivatives, n))}
                terms, (size, count, *room) = terms_of(own, aim), asked.at_once(own, derivatives.most)
                columns = [layers.index(name) for name in layers_of(own.space)[0]] if by_layer else []
                for begin in range(0, len(rows), size):
                    at, which = slice(begin, begin + size), rows[begin : begin + size]
                    scale = None if preconditioner is None else preconditioner[which]
                    columns_of_loss = {n: t[at] for n, t in terms.items()}
                    how = count, same
                    shard = Shard(derivatives, own[at], columns_of_loss, scale, advance, *how)
                    values = asked.of(shard, which.tolist(), *room)
                    nodes |= dict(
                        zip(which.tolist(), zip(*values.pop("nodes", ()), strict=True), strict=False)
                    )
                    for name, value in values.items():
                        place = (which[:, None], columns) if name.startswith("by_layer") else which
                        found[name][place] = value.cpu().numpy()
                    done[which], products = True, products + shard.products
                    advance(most * len(which) - shard.products)
        except KeyboardInterrupt:
            if not done.any():
                raise
            notes.append(f"Interrupted: {int((~done).sum()):,} members were not computed.")
    if "finite" in why:
        notes.append(f"Products are finite differences of gradients: {why['finite']}.")
    if "fallback" in why:
        notes.append(f"Members were computed one after the other: {why['fallback']}.")
    if (asked.top or asked.trace) and (lost := int(np.isnan(found["least" if top else "trace"][done]).sum())):
        notes.append(f"{lost:,} members have no finite products.")
    size = np.abs(np.c_[found["top"], found["least"]]).max(1)
    if wide := int((np.c_[found["top_bound"], found["least_bound"]].max(1) > 2 * tolerance * size).sum()):
        notes.append(
            f"{wide:,} members have eigenvalues whose bound is above the tolerance: give more steps=."
        )
    thresholds = np.full(members, np.nan)
    if optimizer is not None:
        preconditioned = preconditioner is not None
        thresholds = stability_threshold(optimizer, population.table, preconditioned=preconditioned)
    return Curvature(
        title=population.title,
        data=data.name,
        split=split,
        samples=max(len(index) for *_, index in work),
        loss=str(goal),
        operator=operator,
        members=population.table,
        probes=probes,
        density=_density(nodes, members) if nodes else None,
        layers=tuple(layers),
        thresholds=thresholds,
        products=products,
        seconds=time.perf_counter() - began,
        finite=why.get("finite"),
        notes=tuple(notes),
        **found,
    )


def _density(nodes: dict[int, tuple[Tensor, Tensor]], members: int) -> Density:
    """Every member's density on one grid: the mean over its probes, and that mean's standard error."""
    every = np.concatenate([theta.numpy(force=True).ravel() for theta, _ in nodes.values()])
    low, high = np.nanmin(every, initial=0), np.nanmax(every, initial=0)
    width = float(high - low or 1.0) / _WIDTHS
    grid = np.linspace(low - 4 * width, high + 4 * width, _GRID)
    values, errors = (np.full((members, _GRID), np.nan) for _ in range(2))
    for member, (theta, weights) in nodes.items():
        away = (grid[:, None] - theta.numpy(force=True)[:, None]) / width
        normal = np.exp(-(away**2) / 2) / (width * np.sqrt(2 * np.pi))
        each = (weights.numpy(force=True)[:, None] * normal).sum(2)
        values[member], errors[member] = each.mean(0), each.std(0, ddof=1) / len(each) ** 0.5
    return Density(grid, values, errors, width)


def stability_threshold(
    optimizer: Any, table: pd.DataFrame, *, preconditioned: bool = False
) -> Float[np.ndarray, "member"]:
    """Return the eigenvalue from which an optimizer's full-batch steps on a quadratic grow, of each member.

    With rate η, momentum μ, dampening τ and weight decay λ: SGD (2 + 2μ)/((1 − τ)η) − λ; with Nesterov's momentum
    (2 + 2μ)/((1 + 2μ)η) − λ; AdamW, of D^{-1/2} A D^{-1/2} with a constant D = √v̂ + ε, (2 − ηλ)(1 + β₁)/((1 − β₁)η),
    and Adam the same without λ. NaN of others: of Adam with a coupled weight decay, which is no number added to that
    matrix's eigenvalues, and where A is preconditioned or not as the optimizer does not have it. With batches smaller
    than the split, steps grow earlier.

    Args:
        optimizer: As of ``fit``.
        table: One row a member, with the optimizer's columns.
        preconditioned: Whether eigenvalues are those of D^{-1/2} A D^{-1/2}.

    Example:
        >>> stability_threshold(SGD(momentum=0.9), pd.DataFrame({"lr": [0.1, 0.01]})).round(6).tolist()
        [38.0, 380.0]

    Source:
        Cohen et al., "Gradient descent on neural networks typically occurs at the edge of stability", ICLR 2021;
        "Adaptive gradient methods at the edge of stability", arXiv 2207.14484.
    """
    known = optimizers.resolve(optimizer)
    given = {n: np.array(table[n].tolist()) for n in known.hyperparameters() if n in table}
    own = {n: v[:, 0].numpy() for n, v in hyper_columns(known, given, len(table)).items()}
    nothing = np.full(len(table), np.nan)
    adaptive = isinstance(known, Adam | AdamW)
    if not isinstance(known, SGD | Adam | AdamW) or known.maximize or adaptive is not preconditioned:
        return nothing
    rate, decay = own["lr"], own["weight_decay"]
    if isinstance(known, SGD):
        m, damping = own["momentum"], np.where(own["momentum"] == 0, 0, own["dampening"])
        return (2 + 2 * m) / (((1 + 2 * m) if known.nesterov else (1 - damping)) * rate) - decay
    b, decoupled = own["betas"], isinstance(known, AdamW) or known.decoupled_weight_decay
    found = (2 - rate * decay * decoupled) * (1 + b) / ((1 - b) * rate)
    return found if decoupled else np.where(decay == 0, found, nothing)
