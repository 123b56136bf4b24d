"""``Ensemble``: members as one module, whose parameters are stacked and whose outputs are combined."""

import copy
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager, nullcontext, suppress
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from modelspace import data as datasets
from modelspace import losses
from modelspace.construction import seeded
from modelspace.data import Split
from modelspace.engine import SCORED_AT_ONCE, apart, lowered, probe
from modelspace.ensemble._combine import (
    Uncertainty,
    check_combination,
    combined,
    foreignness,
    judge,
    score,
    tempered,
    uncertainty_of,
    usual_combination,
    usual_metrics,
    words,
)
from modelspace.errors import ModelspaceError, first_line
from modelspace.losses import Loss, prediction
from modelspace.metrics import Metric
from modelspace.nest import (
    Nest,
    arguments,
    in_order,
    mapped,
    on,
    only_tensors,
    stacked,
    take,
    tensors,
    unweighted,
)
from modelspace.nest import samples as samples_in
from modelspace.population import Population
from modelspace.runs import Run, Status
from modelspace.space import samples_as

_FEW = 2  # samples on which the batched form is held against the members themselves
_TRACED = 97  # samples of a trace: a number that no other size is likely to be


class Stack(nn.Module):
    """Members of one layout: a module like them, each of whose parameters and buffers is ``[c, …]``.

    Frozen parameters that all members share are held once.

    Args:
        modules: The members.
        rows: Their positions in the ensemble.
    """

    def __init__(self, modules: Sequence[nn.Module], rows: Sequence[int]):
        super().__init__()
        self.rows = tuple(rows)
        self.batched: bool | None = None
        self.shared: set[str] = set()
        self.traced_by: str | None = None
        self._real = [modules[0], modules[-1]]  # until the first call
        first, self.net = modules[0], copy.deepcopy(modules[0])
        made: dict[int, Tensor] = {}  # all names of a tied tensor get the one
        for kind in ("named_parameters", "named_buffers"):
            held = [dict(getattr(module, kind)()) for module in modules]
            for name, tensor in held[0].items():
                values, wants = [own[name].detach() for own in held], tensor.requires_grad
                one = isinstance(tensor, nn.Parameter) and not wants
                if one and all(torch.equal(values[0], value) for value in values):
                    self.shared.add(name)
                    values = values[0].clone()
                else:
                    values = torch.stack(values)
                made[id(tensor)] = nn.Parameter(values, wants) if kind == "named_parameters" else values
        for (_, own), (_, layer) in zip(self.net.named_modules(), first.named_modules(), strict=True):
            own._parameters.update({n: made[id(p)] for n, p in layer._parameters.items() if p is not None})  # pyright: ignore
            own._buffers.update({n: made[id(b)] for n, b in layer._buffers.items() if b is not None})
            if isinstance(own, nn.RNNBase):
                own.flatten_parameters = _nothing

    def forward(self, *inputs: Any, **named: Any) -> Nest:
        """Return the members' outputs, ``[c, …]``: batched where that was seen to be what each computes."""
        # torch.export has no vmap (pytorch#153063): a graph for each member is what it gets; ``plain`` does better.
        exporting = torch.compiler.is_exporting()
        if self._real and not exporting:
            self._decide(inputs, named)
        one_by_one = exporting or not self.batched or self.traced_by == "loop"
        return (self._looped if one_by_one else self._vmapped)(*self._tensors(), inputs, named)

    def _tensors(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The members' own tensors by name, and those that they share."""
        every = {**dict(self.net.named_parameters()), **dict(self.net.named_buffers())}
        return {n: t for n, t in every.items() if n not in self.shared}, {n: every[n] for n in self.shared}

    def _vmapped(self, own: dict[str, Tensor], shared: dict[str, Tensor], inputs: Any, named: Any) -> Nest:
        def one(tensors: dict[str, Tensor]) -> Nest:
            # A convolution's lowering measures which form is faster, which no trace can.
            with nullcontext() if self.traced_by == "vmap" else lowered(None, batched=True):
                return self._called({**shared, **tensors}, inputs, named)

        return torch.vmap(one, randomness="different" if self.training else "same")(own)

    def _looped(self, own: dict[str, Tensor], shared: dict[str, Tensor], inputs: Any, named: Any) -> Nest:
        rows = ({**shared, **{n: t[k] for n, t in own.items()}} for k in range(len(self.rows)))
        return stacked([self._called(tensors, inputs, named) for tensors in rows])

    def _called(self, tensors: dict[str, Tensor], inputs: Any, named: Any) -> Nest:
        given, keywords = mapped(Tensor.clone, (inputs, named))  # a network may write into what it is given
        return only_tensors(functional_call(self.net, tensors, given, keywords))

    def _decide(self, inputs: Any, named: Any) -> None:
        """Hold the two ways to compute members against the first and the last of those given, at their own values."""
        name, why = type(self.net).__name__, ""
        held = [{n: t.detach() for n, t in (*m.named_parameters(), *m.named_buffers())} for m in self._real]
        like = next(iter(held[0].values()))
        few, more = on(like.device, samples_as(take((inputs, named), slice(_FEW)), like.dtype))
        modes = [module.training for module in self._real]
        with evaluating(self):
            real = []
            for module in self._real:
                given, keywords = mapped(Tensor.clone, (few, more))
                with seeded(0):
                    real.append(only_tensors(module.eval()(*given, **keywords)))
            for module, training in zip(self._real, modes, strict=True):
                module.train(training)
            try:
                for tensors, true in zip(held, real, strict=True):
                    with seeded(0):
                        why = why or _difference(self._called(tensors, few, more), true)
            except Exception as error:
                why = first_line(error)
            if why:
                raise ModelspaceError(
                    f"{name} can't be stacked ({why}): its forward depends on something that is neither parameter nor "
                    "buffer, such as a closure over its layers; modelspace.predict computes a population of it"
                )
            own, shared = (
                {n: torch.stack([h[n] for h in held]) for n in held[0] if n not in self.shared},
                held[0],
            )
            try:
                with seeded(0):
                    why = _difference(self._vmapped(own, shared, few, more), stacked(real))
            except Exception as error:
                why = first_line(error)
        self.batched, self._real = not why, []
        if why:
            warnings.warn(f"{name}: no batched form ({why}): members are computed one by one", stacklevel=2)

    def member(self, k: int) -> nn.Module:
        """Return member k as a plain module of its own class, a copy."""
        own, shared = self._tensors()
        values = {id(t): t[k].detach().clone() for t in own.values()}
        values |= {id(t): t.detach().clone() for t in shared.values()}
        memo = {
            id(t): nn.Parameter(values[id(t)], t.requires_grad)
            if isinstance(t, nn.Parameter)
            else values[id(t)]
            for t in (*own.values(), *shared.values())
        }
        made = copy.deepcopy(self.net, memo)
        for layer in made.modules():
            if isinstance(layer, nn.RNNBase):
                del layer.flatten_parameters
        return made


def _nothing() -> None:
    """Stand in for ``flatten_parameters``: stacked weights lie in no one piece."""


def _difference(ours: Nest, real: Nest) -> str:
    """Say that outputs are others than real modules' are; nothing where they are not."""
    pairs = [*zip(tensors(ours), tensors(real), strict=True)]
    return "its outputs are others" if any(apart(own, true) for own, true in pairs) else ""


@contextmanager
def evaluating(module: nn.Module):
    """Run the block in evaluation mode and without gradients."""
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(training)


class Ensemble(nn.Module):
    """Members as one module: their outputs, ``ensemble.outputs(x)``, and the one prediction that it returns.

    The combination follows from what members were trained for, which a run knows. Of cross-entropy it is the mean of
    their probabilities, of the logistic loss that of their sigmoids, of regression the mean, of a location and a
    scale the mixture's; of hinge losses, whose scores stand for no probabilities, the share of votes. Members are in
    evaluation mode until ``train()``; their parameters are ``[K, …]`` tensors in ``state_dict()``, trained on like any
    other. They are computed together where their architecture has a batched form, which is held against the members
    themselves at the first call; members of several layouts, a layout at a time.

    Args:
        source: A run, whose members that did not diverge are taken; a population; modules; another ensemble; or a
            list of such.
        members: Which of them: positions, a slice, a mask, or a query of the table, ``"lr < 0.01"``; all where None.
        combine: ``mean``, ``geometric`` (the mean of logits), ``vote``, ``mixture``; what suits the loss where None.
        loss: What members were trained for, by name or as a loss; of a run, its own. Where it is not known, outputs
            are values and their mean is returned.
        weights: ``[K]``, at least 0; each member alike where None.

    Attributes:
        loss: What members were trained for; None where it is not known.
        combine: The combination's name.
        weights: ``[K]``, of sum 1.
        temperature: What the combined prediction is softened by: see ``calibrate``.
        table: A row a member, of a run or a population; None of others.
        input_shape: One sample's; None where it is not known.

    Raises:
        ModelspaceError: no members, members of several losses, a combination that is unknown or none of such outputs.

    Example:
        >>> from modelspace.examples import DummyNet
        >>> ensemble = ms.Ensemble(ms.ModelSpace(DummyNet).sample(seeds=3), loss="cross_entropy")
        >>> x = torch.zeros(5, 3, 7, 7)
        >>> ensemble.outputs(x).shape, ensemble(x).shape
        (torch.Size([3, 5, 10]), torch.Size([5, 10]))

    Source:
        Lakshminarayanan, Pritzel & Blundell, "Simple and scalable predictive uncertainty estimation using deep
        ensembles", NeurIPS 2017.
    """

    weights: Tensor
    temperature: Tensor

    def __init__(
        self,
        source: Any,
        *,
        members: Any = None,
        combine: str | None = None,
        loss: str | Loss | Callable[[Any, Any], Tensor] | None = None,
        weights: Sequence[float] | Tensor | None = None,
    ):
        super().__init__()
        given = _gathered(source, members, any_loss=loss is not None)
        if not given.modules:
            raise ModelspaceError(
                "an ensemble has at least one member: "
                + ("none was given" if members is None else f"members={members!r} chose none")
            )
        self.table, self.input_shape = given.table, given.input_shape
        self.loss = given.loss if loss is None else losses.resolve(loss)
        self.combine = usual_combination(self.loss) if combine is None else combine
        check_combination(self.combine, self.loss)
        groups: dict[Any, list[int]] = {}
        for k, module in enumerate(given.modules):
            groups.setdefault(_layout(module), []).append(k)
        self.stacks = nn.ModuleList(Stack([given.modules[k] for k in rows], rows) for rows in groups.values())
        count = len(given.modules)
        shares = torch.as_tensor([1.0] * count if weights is None else weights, dtype=torch.float64)
        if shares.shape != (count,) or not bool((shares >= 0).all()) or not float(shares.sum()) > 0:
            raise ModelspaceError(f"weights are {count} numbers of at least 0; received {shares.tolist()}")
        self.register_buffer("weights", shares / shares.sum())
        self.register_buffer("temperature", torch.ones((), dtype=torch.float64))
        self.eval()

    def outputs(self, *inputs: Any, **named: Any) -> Nest:
        """Return the outputs of every member, ``[K, N, …]``; of a model with several outputs, their nest."""
        return in_order([(np.array(stack.rows), stack(*inputs, **named)) for stack in self._stacks])

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """Return the combined prediction: probabilities, values, or a location and a log-scale."""
        return self.combined(prediction(self.outputs(*inputs, **named)))

    def combined(self, outputs: Float[Tensor, "member sample *output"]) -> Tensor:
        """Return the combined prediction of members' outputs, softened by the temperature."""
        return tempered(combined(self.combine, self.loss, outputs, self.weights), self.temperature, self.loss)

    def uncertainty(self, *inputs: Any, **named: Any) -> Uncertainty:
        """Return how unsure the members are together, before any temperature: see ``Uncertainty``."""
        return uncertainty_of(self.loss, prediction(self.outputs(*inputs, **named)), self.weights)

    def foreignness(self, *inputs: Any, **named: Any) -> dict[str, Tensor]:
        """Return scores of how foreign each input is, ``[N]`` by name: see ``modelspace.ensemble.separation``."""
        return foreignness(self.loss, prediction(self.outputs(*inputs, **named)), self.weights)

    def over(self, inputs: Nest, batch_size: int = SCORED_AT_ONCE) -> Float[Tensor, "member sample *output"]:
        """Return all members' outputs for as many samples as there are, a piece at a time, on the CPU.

        Args:
            inputs: A nest of ``[N, …]``, on any device and of any floating-point type.
            batch_size: Samples computed at once.

        Raises:
            ModelspaceError: there are no samples, or they do not fit.
        """
        inputs, count = on(self.weights.device, samples_as(inputs, self._dtype)), samples_in(inputs)
        if not count:
            raise ModelspaceError("no samples: there is nothing to predict")
        probe(self._stacks[0].member(0), take(inputs, slice(_FEW)))  # what does not fit names the layer
        pieces = []
        with evaluating(self):
            for begin in range(0, count, batch_size):
                positional, named = arguments(take(inputs, slice(begin, begin + batch_size)))
                pieces.append(prediction(self.outputs(*positional, **named)).cpu())
        return torch.cat(pieces, 1)

    def on_split(self, data: Any, split: str) -> tuple[Float[Tensor, "member sample *output"], Tensor]:
        """Return all members' outputs on samples, and the labels.

        Args:
            data: A ``Split``, of which all samples are taken; or what ``modelspace.data.load`` takes.
            split: Which part of it.
        """
        part = data if isinstance(data, Split) else datasets.load(data).part(split)
        labels = unweighted(part.labels)
        if not isinstance(labels, Tensor):
            raise ModelspaceError(
                f"an ensemble is scored on one tensor of labels; here they are: {part.said}"
            )
        return self.over(part.inputs), labels

    def evaluate(
        self,
        data: Any,
        metrics: Iterable[str | Metric | Callable[..., Any]] | None = None,
        *,
        split: str = "test",
    ) -> pd.DataFrame:
        """Score the combined prediction, and each member by itself.

        Args:
            data: A ``Split``, or what ``modelspace.data.load`` takes.
            metrics: Names or functions, as ``modelspace.evaluate`` takes them; the usual ones where None. They are
                given log-probabilities, log-odds or values, as one model would give them.
            split: Which part of the data.

        Returns:
            A row a metric: ``ensemble``; ``members``, the mean of the members' own; ``sd``, their standard deviation.
        """
        outputs, labels = self.on_split(data, split)
        chosen = [
            judge(self.loss, self.combine, m)
            for m in metrics or usual_metrics(self.loss, self.combine, labels)
        ]
        alone, one = usual_combination(self.loss), torch.ones(1)
        whole = self.combined(outputs)
        singles = [combined(alone, self.loss, outputs[[k]], one) for k in range(len(self))]
        rows = []
        for metric in chosen:
            own = np.array([score(self.loss, single, labels, metric) for single in singles])
            spread = own.std(ddof=1) if len(own) > 1 else np.nan
            rows.append((score(self.loss, whole, labels, metric), own.mean(), spread))
        index = pd.Index([metric.name for metric in chosen], name="metric")
        return pd.DataFrame(rows, index, ["ensemble", "members", "sd"])

    def calibrate(self, data: Any, *, split: str = "validation") -> float:
        """Fit the temperature of the combined prediction, and return it; from here on ``forward`` applies it.

        After averaging, not before: the mean of calibrated members is underconfident. Of classes
        p̄^(1/T) / Σ p̄^(1/T), of a location and a scale the variance T times as large; T minimises the mean negative
        log-likelihood.

        Args:
            data: A ``Split`` whose samples were not trained on, or what ``modelspace.data.load`` takes.
            split: Which part of it.

        Raises:
            ModelspaceError: the prediction has neither probabilities nor a scale.

        Source:
            Rahaman & Thiery, "Uncertainty quantification and deep ensembles", NeurIPS 2021 (arXiv 2007.08792); Guo,
            Pleiss, Sun & Weinberger, "On calibration of modern neural networks", ICML 2017.
        """
        metric = judge(self.loss, self.combine)
        if metric.name in ("mse", "accuracy"):
            raise ModelspaceError(
                f"a temperature is of probabilities or of a scale, and this prediction has none: "
                f"{words(self.loss, self.combine)}"
            )
        outputs, labels = self.on_split(data, split)
        found = combined(self.combine, self.loss, outputs.double(), self.weights)

        def risk(log_t: float) -> float:
            t = torch.tensor(log_t, dtype=torch.float64).exp()
            return score(self.loss, tempered(found, t, self.loss), labels, metric)

        best: Any = minimize_scalar(risk, bounds=(-5.0, 5.0), method="bounded", options={"xatol": 1e-8})
        self.temperature.fill_(float(np.exp(best.x)))
        return float(self.temperature)

    def plain(self, *inputs: Any) -> nn.Module:
        """Return the same prediction as a module that is a graph of PyTorch's operations, and nothing of this library.

        Its batch may be of any size.

        Args:
            *inputs: What ``forward`` is given, of at least two samples; made up where one sample's shape is known.
        """
        return self._program(inputs).module()

    def export(self, path: str | os.PathLike[str], *inputs: Any) -> None:
        """Write the prediction to a file that needs nothing of this library.

        Args:
            path: ``net.pt2``, which ``torch.export.load(path).module()`` reads; or ``net.onnx``, which needs the extra
                ``onnx``.
            *inputs: As for ``plain``.

        Raises:
            ModelspaceError: the path ends in neither, or ONNX is not installed.
        """
        path = Path(path)
        if path.suffix not in (".pt2", ".onnx"):
            raise ModelspaceError(f"an ensemble is exported to .pt2 or .onnx; received '{path}'")
        if path.suffix == ".pt2":
            torch.export.save(self._program(inputs), path)
            return
        try:
            import onnx  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise ModelspaceError(
                f"exporting to ONNX needs a package that can't be imported ({error}): "
                "pip install 'torch-modelspace[onnx]'"
            ) from error
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the exporter itself calls
            torch.onnx.export(
                self._program(inputs), (), path, dynamo=True, verbose=False, external_data=False
            )

    def _program(self, inputs: tuple[Any, ...]) -> torch.export.ExportedProgram:
        """The forward as a program: its batched graph, traced with symbolic sizes, then exported."""
        if not inputs and self.input_shape is None:
            raise ModelspaceError(
                "give samples as the forward takes them, plain(x): their shape is not known"
            )
        given: Any = inputs or (torch.zeros(_FEW, *(self.input_shape or ()), dtype=self._dtype),)
        if samples_in(given) < _FEW:
            raise ModelspaceError("of one sample a batch can't be told from a constant: give at least two")
        # Sizes that are equal in a trace are taken for one.
        many = torch.arange(_TRACED) % samples_in(given)
        given = on(self.weights.device, take(given, many))
        with evaluating(self):
            expected = self(*given)
            for way in ("vmap", "lowered", "loop"):
                with suppress(*(() if way == "loop" else (Exception,))):
                    program = self._traced(way, given)
                    if not apart(program.module()(*given), expected):
                        return program
        raise ModelspaceError(
            "the exported program computes something else: the forward depends on values of its inputs"
        )

    def _traced(self, way: str, given: tuple[Any, ...]) -> torch.export.ExportedProgram:
        state = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        state = {name: tensor.detach() for name, tensor in state.items()}
        try:
            for stack in self._stacks:
                stack.traced_by = way
            traced = make_fx(lambda state, *x: functional_call(self, state, x), tracing_mode="symbolic")
            graph = _Graph(traced(state, *given), state).eval()
        finally:
            for stack in self._stacks:
                stack.traced_by = None
        batch = torch.export.Dim("batch")
        return torch.export.export(graph, given, dynamic_shapes=(mapped(lambda _: {0: batch}, given),))

    @property
    def members(self) -> list[nn.Module]:
        """Every member as a plain module of its own class, copies, in order."""
        found = {k: stack.member(i) for stack in self._stacks for i, k in enumerate(stack.rows)}
        return [found[k] for k in range(len(self))]

    @property
    def _stacks(self) -> list[Stack]:
        return list(self.stacks)  # pyright: ignore[reportReturnType]

    @property
    def _dtype(self) -> torch.dtype:
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.get_default_dtype())

    def __len__(self) -> int:
        return len(self.weights)

    def _facts(self) -> list[tuple[str, str]]:
        kinds = ", ".join(f"{len(stack.rows)} {type(stack.net).__name__}" for stack in self._stacks)
        ways = {True: "batched", False: "one by one", None: "batched if the first call allows"}
        rows = [
            ("members", kinds),
            ("parameters", f"{sum(p.numel() for p in self.parameters()):,} on {self.weights.device}"),
            ("prediction", f"{words(self.loss, self.combine)}; loss: {self.loss or 'not known'}"),
            ("computed", ", ".join(dict.fromkeys(ways[stack.batched] for stack in self._stacks))),
        ]
        if float(self.weights.max() - self.weights.min()) > 1e-9:
            rows.append(("weights", ", ".join(f"{w:.3g}" for w in self.weights.tolist()[:16])))
        return [*rows, ("temperature", f"{float(self.temperature):.4g}")]

    def __repr__(self) -> str:
        return "\n".join(
            [f"Ensemble of {len(self)}", *(f"  {name:<12}{value}" for name, value in self._facts())]
        )

    def _repr_html_(self) -> str:
        facts = "".join(f"<tr><th>{escape(n)}</th><td>{escape(v)}</td></tr>" for n, v in self._facts())
        table = "" if self.table is None else self.table.to_html(max_rows=10, escape=True)
        return f"<div><p><strong>Ensemble of {len(self)}</strong></p><table>{facts}</table>{table}</div>"


class _Graph(nn.Module):
    """A traced graph, and the tensors that it is given first: those of the ensemble, by their names there."""

    def __init__(self, graph: nn.Module, state: dict[str, Tensor]):
        super().__init__()
        self.graph, self.names = graph, {name: name.replace(".", "_") for name in state}
        for name, tensor in state.items():
            self.register_buffer(self.names[name], tensor.clone())

    def forward(self, *inputs: Any) -> Tensor:
        return self.graph({name: getattr(self, own) for name, own in self.names.items()}, *inputs)


class _Given(NamedTuple):
    """What an ensemble is made of; None for what is not known."""

    modules: list[nn.Module]
    table: pd.DataFrame | None = None
    loss: Loss | None = None
    input_shape: tuple[int, ...] | None = None


def _gathered(source: Any, members: Any, *, any_loss: bool) -> _Given:
    """Take members out of a run, a population, an ensemble, or a list of such and of modules."""
    if isinstance(source, Run | Population):
        run = source if isinstance(source, Run) else None
        population = source if isinstance(source, Population) else source.population
        table = population.table if run is None else run.table.iloc[run.kept].reset_index(drop=True)
        rows, loss = _rows(len(table), table, members), None
        if run is not None:
            whole = rows[run.status[run.kept][rows] != Status.DIVERGED]
            if len(rows) and not len(whole):
                raise ModelspaceError(f"an ensemble has at least one member: all {len(rows)} diverged")
            rows, loss = whole, None if any_loss else _loss_of(run, whole)
        return _Given(population[rows].modules(), _some(table, rows), loss, population.space.input_shape)
    if isinstance(source, Ensemble):
        rows, every = _rows(len(source), source.table, members), source.members
        return _Given([every[k] for k in rows], _some(source.table, rows), source.loss, source.input_shape)
    if not isinstance(source, Iterable) or (
        isinstance(source, nn.Module) and not isinstance(source, nn.ModuleList)
    ):
        raise ModelspaceError(
            f"an ensemble is of a run, a population or a list of modules; received a {type(source).__name__}"
        )
    parts = [
        _Given([part])
        if isinstance(part, nn.Module) and not isinstance(part, Ensemble | nn.ModuleList)
        else _gathered(part, None, any_loss=any_loss)
        for part in source
    ]
    known = {str(part.loss): part.loss for part in parts if part.loss is not None}
    if len(known) > 1 and not any_loss:
        raise _several(list(known))
    modules = [module for part in parts for module in part.modules]
    chosen = [modules[k] for k in _rows(len(modules), None, members)]
    shape = next((part.input_shape for part in parts if part.input_shape is not None), None)
    return _Given(chosen, None, next(iter(known.values()), None), shape)


def _some(table: pd.DataFrame | None, rows: np.ndarray) -> pd.DataFrame | None:
    return None if table is None else table.iloc[rows].reset_index(drop=True)


def _rows(count: int, table: pd.DataFrame | None, members: Any) -> np.ndarray:
    """The positions of the members chosen."""
    try:
        if isinstance(members, str):
            if table is None:
                raise ModelspaceError("no table tells these members apart: choose them by position")
            return np.asarray(table.query(members).index, dtype=int)
        index = slice(None) if members is None else members
        index = index if isinstance(index, slice) else np.asarray(index)
        return np.arange(count)[index if isinstance(index, slice) or index.size else slice(0)].reshape(-1)
    except ModelspaceError:
        raise
    except Exception as error:
        columns = "" if table is None else f" (columns: {', '.join(map(str, table.columns))})"
        raise ModelspaceError(f"members={members!r} of {count}: {first_line(error)}{columns}") from error


def _loss_of(run: Run, rows: np.ndarray) -> Loss | None:
    """What a run's members were trained for; None of a function of the user's."""
    names = [str(run.settings.get("loss"))]
    if "loss" in run.members:
        names = list(dict.fromkeys(map(str, run.members["loss"].iloc[run.kept[rows]])))
    if len(names) > 1:
        raise _several(names)
    with suppress(ModelspaceError):
        return losses.resolve(names[0])
    kind = getattr(nn, names[0], None)  # a module of PyTorch's, which goes by its class
    with suppress(ModelspaceError, TypeError):
        return losses.resolve(kind()) if kind is not None else None
    return None


def _several(names: Sequence[str]) -> ModelspaceError:
    return ModelspaceError(
        f"members were trained for {len(names)} losses ({', '.join(names)}): choose those of one, "
        f"members=\"loss == '{names[0]}'\", or give loss=, by which all are read"
    )


def _layout(module: nn.Module) -> tuple[Any, ...]:
    """What members that are computed together have in common: all but the values of their tensors."""
    first: dict[int, int] = {}
    held = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    found = [
        (n, t.shape, t.dtype, t.device, t.requires_grad, first.setdefault(id(t), k))
        for k, (n, t) in enumerate(held)
    ]
    return (*found, *((type(layer), *_attributes(layer)) for layer in module.modules()))


def _attributes(layer: nn.Module) -> Iterable[tuple[str, Any]]:
    """A layer's plain attributes, in which members may differ: a rate of dropout, a tensor that is no buffer."""
    for name, value in sorted(vars(layer).items()):
        if isinstance(value, Tensor):
            yield name, bytes(value.detach().cpu().reshape(-1).view(torch.uint8).numpy())
        elif name != "training" and isinstance(value, bool | int | float | str | tuple):
            yield name, repr(value)
