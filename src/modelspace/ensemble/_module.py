"""``Ensemble``: members as one module, which returns one prediction."""

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

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
from modelspace.data import Split
from modelspace.engine import SCORED_AT_ONCE, apart, probe
from modelspace.ensemble import _combine
from modelspace.ensemble._combine import COMBINATIONS, Uncertainty, judge, kind_of, score
from modelspace.ensemble._stack import FEW, Members, Stack, evaluating, layout_of, members_of
from modelspace.errors import ModelspaceError, first_line
from modelspace.losses import Loss, prediction
from modelspace.metrics import Metric
from modelspace.nest import Nest, arguments, in_order, mapped, on, samples, take, unweighted
from modelspace.space import samples_as

_TRACED = 97  # samples of a trace: a number that no other size is likely to be


class Ensemble(nn.Module):
    """Members as one module: their outputs, ``ensemble.outputs(x)``, and the one prediction that it returns.

    The combination follows from what members were trained for, which a run knows. Of cross-entropy it is the mean of
    their probabilities, of the logistic loss that of their sigmoids, of regression the mean, of a location and a
    scale the mixture's; of hinge losses, whose scores stand for no probabilities, the share of votes. Members are in
    evaluation mode until ``train()``; their parameters are ``[K, …]`` tensors in ``state_dict()``, trained like any
    other. They are computed together where their architecture has a batched form, which is held against the members
    themselves at the first call; members of several layouts, a layout at a time.

    Args:
        source: A run, whose members that did not diverge are taken; a population; modules; another ensemble; or a
            list of such.
        members: Which of them: positions, a slice, a mask, or a query of the table, ``"lr < 0.01"``; all where None.
        combine: ``mean``; ``geometric``, the mean of logits; ``vote``; ``mixture``. What suits the loss where None.
        loss: What members were trained for, by name or as a loss; of a run, its own. Where it is not known, outputs
            are values and their mean is returned.
        weights: ``[K]``, at least 0; each member alike where None.

    Attributes:
        loss: What members were trained for; None where it is not known.
        combine: The combination's name.
        weights: ``[K]``, of sum 1.
        temperature: What the combined prediction is softened by: see ``calibrate``.
        table: A row a member, of a run or a population; None of others.

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
        source = [source] if isinstance(source, Ensemble) else source
        modules, self.table, self.loss, self._shape = members_of(source, members, any_loss=loss is not None)
        if not modules:
            why = "none was given" if members is None else f"members={members!r} chose none"
            raise ModelspaceError(f"an ensemble has at least one member: {why}")
        self.loss = self.loss if loss is None else losses.resolve(loss)
        self.combine = _combine.usual_combination(self.loss) if combine is None else combine
        _combine.check_combination(self.combine, self.loss)
        groups: dict[Any, list[int]] = {}
        for k, module in enumerate(modules):
            groups.setdefault(layout_of(module), []).append(k)
        self.stacks = nn.ModuleList(Stack([modules[k] for k in rows], rows) for rows in groups.values())
        shares = torch.as_tensor([1.0] * len(modules) if weights is None else weights, dtype=torch.float64)
        if shares.shape != (len(modules),) or not bool((shares >= 0).all()) or not float(shares.sum()) > 0:
            raise ModelspaceError(
                f"weights are {len(modules)} numbers of at least 0; received {shares.tolist()}"
            )
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
        found = _combine.combined(self.combine, self.loss, outputs, self.weights)
        return _combine.tempered(found, self.temperature, self.loss)

    def uncertainty(self, *inputs: Any, **named: Any) -> Uncertainty:
        """Return how unsure the members are together, before any temperature: see ``Uncertainty``."""
        return _combine.uncertainty_of(self.loss, prediction(self.outputs(*inputs, **named)), self.weights)

    def foreignness(self, *inputs: Any, **named: Any) -> dict[str, Tensor]:
        """Return scores of how foreign each input is, ``[N]`` by name: see ``modelspace.ensemble.separation``."""
        return _combine.foreignness(self.loss, prediction(self.outputs(*inputs, **named)), self.weights)

    def over(self, inputs: Nest, batch_size: int = SCORED_AT_ONCE) -> Float[Tensor, "member sample *output"]:
        """Return all members' outputs for as many samples as there are, on the CPU.

        Args:
            inputs: A nest of ``[N, …]``, on any device and of any floating-point type.
            batch_size: Samples computed at once.

        Raises:
            ModelspaceError: there are no samples, or they do not fit.
        """
        inputs, count, pieces = on(self.weights.device, samples_as(inputs, self._dtype)), samples(inputs), []
        if not count:
            raise ModelspaceError("no samples: there is nothing to predict")
        probe(self._stacks[0].member(0), take(inputs, slice(FEW)))  # what does not fit names the layer
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
        wanted = metrics
        if wanted is None and kind_of(self.loss) in ("classes", "binary"):
            wanted = ["accuracy"] if self.combine == "vote" else ["log_loss", "accuracy", "brier", "ece"]
        elif wanted is None and self.loss is None and not labels.is_floating_point():
            raise ModelspaceError(
                "labels are classes, and how outputs are read is not known: Ensemble(…, loss='cross_entropy')"
            )
        chosen = [judge(self.loss, self.combine, metric) for metric in wanted or [None, "mse", "r2"]]
        alone, one = _combine.usual_combination(self.loss), torch.ones(1)
        singles = [_combine.combined(alone, self.loss, outputs[[k]], one) for k in range(len(self))]
        rows = {}
        for metric in chosen:
            own = np.array([score(self.loss, single, labels, metric) for single in singles])
            sd = own.std(ddof=1) if len(own) > 1 else np.nan
            rows[metric.name] = score(self.loss, self.combined(outputs), labels, metric), own.mean(), sd
        table = pd.DataFrame.from_dict(rows, orient="index", columns=["ensemble", "members", "sd"])
        return table.rename_axis("metric")

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
                f"a temperature is of probabilities or of a scale, and the {self._said} has none"
            )
        outputs, labels = self.on_split(data, split)
        found = _combine.combined(self.combine, self.loss, outputs.double(), self.weights)

        def risk(log_t: float) -> float:
            t = torch.tensor(log_t, dtype=torch.float64).exp()
            return score(self.loss, _combine.tempered(found, t, self.loss), labels, metric)

        best: Any = minimize_scalar(risk, bounds=(-5.0, 5.0), method="bounded", options={"xatol": 1e-8})
        self.temperature.fill_(float(np.exp(best.x)))
        return float(self.temperature)

    def plain(self, *inputs: Any) -> nn.Module:
        """Return the same prediction as a graph of PyTorch's operations, and nothing of this library.

        Args:
            *inputs: What ``forward`` is given, of at least two samples; made up where one sample's shape is known.
                The graph takes any number of them.
        """
        return self._program(inputs).module()

    def export(self, path: str | os.PathLike[str], *inputs: Any) -> None:
        """Write the prediction to a file that needs nothing of this library.

        Args:
            path: ``net.pt2``, which ``torch.export.load(path).module()`` reads; or ``net.onnx``, which needs the
                extra ``onnx``.
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
            import onnx  # noqa: F401  # pyright: ignore[reportMissingImports]
            import onnxscript  # noqa: F401  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ModelspaceError(
                f"ONNX needs a package that can't be imported ({error}): pip install 'torch-modelspace[onnx]'"
            ) from error
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the exporter itself calls
            torch.onnx.export(self._program(inputs), (), path, verbose=False, external_data=False)

    def _program(self, inputs: tuple[Any, ...]) -> torch.export.ExportedProgram:
        """The forward as a program, of the first way to trace it that gives what it gives."""
        if not inputs and self._shape is None:
            raise ModelspaceError(
                "give samples as the forward takes them, plain(x): what they are is not known"
            )
        draws = torch.Generator().manual_seed(0)
        given: Any = inputs or (torch.randn(FEW, *(self._shape or ()), generator=draws, dtype=self._dtype),)
        if samples(given) < FEW:
            raise ModelspaceError("of one sample a batch can't be told from a constant: give at least two")
        # Sizes that are equal in a trace are taken for one.
        given = on(self.weights.device, take(given, torch.arange(_TRACED) % samples(given)))
        with evaluating(self):
            expected = self(*given)
            why = ""
            for loop in (False, True):
                try:
                    program, why = self._traced(given, loop=loop), "its outputs are others"
                    if not apart(program.module()(*given), expected):
                        return program
                except Exception as error:
                    why = first_line(error)
        raise ModelspaceError(
            f"no program of any number of samples ({why}): the forward looks at its inputs' values, or takes their "
            "number as len(x), which is a constant to a trace where x.shape[0] is none"
        )

    def _traced(self, given: tuple[Any, ...], *, loop: bool) -> torch.export.ExportedProgram:
        state = {n: t.detach() for n, t in (*self.named_parameters(), *self.named_buffers())}
        ways = [stack.way for stack in self._stacks]
        try:
            for stack in self._stacks:
                stack.way = "loop" if loop else stack.way
            tracer = make_fx(lambda state, *x: functional_call(self, state, x), tracing_mode="symbolic")
            graph = _Graph(tracer(state, *given), state).eval()
        finally:
            for stack, way in zip(self._stacks, ways, strict=True):
                stack.way = way
        batch = torch.export.Dim("batch")
        sizes = (mapped(lambda _: {0: batch}, given),)
        return torch.export.export(graph, given, dynamic_shapes=sizes)

    @property
    def members(self) -> list[nn.Module]:
        """Every member as a plain module of its own class, copies, in order."""
        found = {k: stack.member(i) for stack in self._stacks for i, k in enumerate(stack.rows)}
        return [found[k] for k in range(len(self))]

    def as_members(self) -> Members:
        """Return what another ensemble may be made of."""
        return Members(self.members, self.table, self.loss, self._shape)

    @property
    def _stacks(self) -> list[Stack]:
        return list(self.stacks)  # pyright: ignore[reportReturnType]

    @property
    def _dtype(self) -> torch.dtype:
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.get_default_dtype())

    @property
    def _said(self) -> str:
        return COMBINATIONS[self.combine][kind_of(self.loss)]

    def __len__(self) -> int:
        return len(self.weights)

    def _facts(self) -> dict[str, str]:
        ways = {"loop": "one by one", None: "batched if the first call allows"}
        uneven = float(self.weights.max() - self.weights.min()) > 1e-9
        return {
            "members": ", ".join(f"{len(stack.rows)} {type(stack.net).__name__}" for stack in self._stacks),
            "parameters": f"{sum(p.numel() for p in self.parameters()):,} on {self.weights.device}",
            "prediction": f"{self._said}; loss: {self.loss or 'not known'}",
            "computed": ", ".join(dict.fromkeys(ways.get(stack.way, "batched") for stack in self._stacks)),
            "weights": ", ".join(f"{w:.3g}" for w in self.weights.tolist()[:16]) if uneven else "alike",
            "temperature": f"{float(self.temperature):.4g}",
        }

    def __repr__(self) -> str:
        facts = (f"  {name:<12}{value}" for name, value in self._facts().items())
        return "\n".join([f"Ensemble of {len(self)}", *facts])

    def _repr_html_(self) -> str:
        facts = "".join(
            f"<tr><th>{escape(n)}</th><td>{escape(v)}</td></tr>" for n, v in self._facts().items()
        )
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
