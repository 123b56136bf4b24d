"""The model under examination: what rules ask of it is computed once, and never on the user's own module."""

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from modelspace.construction import Architecture, copied
from modelspace.doctor.rule import Inapplicable
from modelspace.doctor.samples import known_tokens, made_inputs, made_labels, seed_all
from modelspace.doctor.trace import Operation, Trace, first_tensor, output_of, record
from modelspace.errors import ModelspaceError
from modelspace.losses import Loss
from modelspace.nest import Nest

# Samples in a probe's batch: a prime that sizes within a model are unlikely to be.
BATCH = 5
# What a probe may keep in memory and run in seconds on two cores: a forward of ResNet-152 on BATCH images.
LARGEST_PARAMETERS = 100_000_000
# Kernels without values are Python: of so few parameters the values are there sooner.
_SMALL = 1_000_000
# What the forwards of one probe may take; a slow model gets fewer samples, not fewer probes.
SECONDS = 0.5


@dataclass(eq=False)
class Subject:
    """A model, what it is to be trained with, and what has been found out about it so far.

    Attributes:
        architecture: What makes the module.
        shape: One sample's shape.
        input_dtype: Of the samples.
        tokens: Integer samples are below this; as many as the model's embeddings know where None.
        given_loss: The loss, if one was given.
        formula: The formula that the user takes the loss for.
        samples: The user's own samples.
        several: What they are where they are several tensors, which the rules do not look at.
        nest: They themselves.
        labels: Their labels.
        classes: The number of classes that the user declared.
        optimizer: The user's optimizers, or a function that makes them of a module.
        of_loss: Parameters that are the loss's own.
        seed: Of the module and of everything random.
    """

    architecture: Architecture
    shape: tuple[int, ...] | None = None
    input_dtype: torch.dtype = torch.float32
    tokens: int | None = None
    given_loss: Loss | None = None
    formula: Loss | None = None
    samples: Tensor | None = None
    several: str | None = None
    nest: Nest = None
    labels: Tensor | None = None
    classes: int | None = None
    optimizer: Any = None
    of_loss: tuple[Tensor, ...] = ()
    seed: int = 0

    @property
    def given_module(self) -> bool:
        """Whether the user gave a built module, whose values are its own, rather than a class."""
        return isinstance(self.architecture.source, nn.Module)

    @cached_property
    def skeleton(self) -> nn.Module:
        """The module without values, on PyTorch's meta device where its constructor allows."""
        return self.architecture.on_meta()

    @cached_property
    def parameter_count(self) -> int:
        """Parameters, trainable and frozen."""
        return sum(p.numel() for p in self.skeleton.parameters())

    @property
    def too_large(self) -> bool:
        """Whether it is not to be run on values."""
        return self.parameter_count > LARGEST_PARAMETERS

    @property
    def title(self) -> str:
        """The architecture's name."""
        return self.architecture.name

    @property
    def loss(self) -> Loss:
        """The loss, which the rules that ask for it need."""
        assert self.given_loss is not None
        return self.given_loss

    @property
    def by_class(self) -> bool:
        """Whether the loss takes outputs ``[N, C, …]`` and for labels the integers ``[N, …]``."""
        return self.loss.labels == "class"

    def fresh(self, *, training: bool = False, seed: int | None = None) -> nn.Module:
        """Make a module that nobody else has: drawn with a seed, or a copy of the one that was given."""
        drawn = self.architecture.drawn
        module = self.architecture.as_given() if self.given_module else drawn(self._or_own(seed))
        return module.train(training)

    def _or_own(self, seed: int | None) -> int:
        return self.seed if seed is None else seed

    @cached_property
    def dtype(self) -> torch.dtype:
        """The samples' type: that of the parameters for floating-point samples."""
        if not self.input_dtype.is_floating_point:
            return self.input_dtype
        floating = [p.dtype for p in self.skeleton.parameters() if p.dtype.is_floating_point]
        return floating[0] if floating and self.samples is None else self.input_dtype

    def inputs(
        self,
        batch: int = BATCH,
        *,
        scale: float = 1.0,
        shape: tuple[int, ...] | None = None,
        seed: int | None = None,
        device: str = "cpu",
    ) -> Tensor:
        """Make a batch: of the user's samples where the shape is theirs, else made up.

        Args:
            batch: Samples.
            scale: Factor on floating-point samples.
            shape: One sample's shape, where it is not the model's.
            seed: Of samples that are made up.
            device: ``"meta"`` for shapes alone.
        """
        if self.shape is None:
            raise ModelspaceError("one sample's shape is not known: give inputs=(…)")
        wanted = self.shape if shape is None else shape
        if device == "cpu" and self.samples is not None and wanted == self.shape:
            rows = torch.arange(batch) % len(self.samples)
            batched = self.samples[rows].to(self.dtype)
        else:
            tokens = self.tokens or known_tokens(self.skeleton)
            batched = made_inputs(batch, wanted, self.dtype, tokens, seed=self._or_own(seed), device=device)
        return batched * scale if scale != 1 and batched.is_floating_point() else batched

    def run(self, inputs: Tensor, *, module: nn.Module | None = None, seed: int | None = None) -> Tensor:
        """Return the outputs of a module in its mode, or a fresh one in evaluation mode, without gradients.

        The random numbers that the forward draws start at the seed.
        """
        module = self.fresh() if module is None else module
        seed_all(self._or_own(seed))
        with torch.no_grad():
            return output_of(module(inputs))

    def shaped(self, batch: int, shape: tuple[int, ...] | None = None) -> Tensor | None:
        """Return outputs of which only the shape counts, for any batch and shape; None where the forward fails."""
        if batch == BATCH and shape is None and self.trace.failure is None:
            return first_tensor(self.trace.result)
        without_values = shape is not None or self.parameter_count > _SMALL
        try:
            if without_values:
                module = copied(self.skeleton, "meta").eval()
                with torch.no_grad():
                    return first_tensor(module(self.inputs(batch, shape=shape, device="meta")))
        except Exception as error:
            needs_values = isinstance(error, NotImplementedError) or "meta" in str(error).lower()
            if self.too_large or not needs_values:
                return None
        try:
            return self.run(self.inputs(batch, shape=shape))
        except Exception:
            return None

    @cached_property
    def trace(self) -> Trace:
        """One forward in evaluation mode, recorded, with gradients."""
        return self.traced(training=False)

    @cached_property
    def training_trace(self) -> Trace:
        """One forward in training mode, recorded, with gradients."""
        return self.traced(training=True)

    def traced(self, *, training: bool, batch: int = BATCH, seed: int | None = None) -> Trace:
        """Record a forward of a fresh module; of shapes alone where the model is too large to run."""
        seed = self._or_own(seed)
        if self.too_large:
            module = copied(self.skeleton, "meta").train(training)
            inputs = self.inputs(batch, device="meta")
        else:
            module, inputs = self.fresh(training=training, seed=seed), self.inputs(batch, seed=seed)
        seed_all(seed)
        with torch.enable_grad():
            return record(module, inputs)

    @cached_property
    def outputs(self) -> Tensor:
        """Outputs of `BATCH` samples in evaluation mode."""
        return self.trace.outputs.detach()

    @cached_property
    def scaled(self) -> dict[float, Tensor]:
        """Outputs for inputs at a tenth, once and ten times their size."""
        module = self.fresh()
        scales = (0.1, 1.0, 10.0)
        batch = self.affordable(32, len(scales))
        return {scale: self.run(self.inputs(batch, scale=scale), module=module) for scale in scales}

    @property
    def last(self) -> Operation | None:
        """The operation that made the outputs' values."""
        return self.trace.source_of(self.trace.outputs)

    @property
    def end(self) -> str:
        """Where the outputs are made."""
        return self.last.where if self.last is not None else self.title

    @cached_property
    def written_in_training(self) -> frozenset[str]:
        """Names of parameters and buffers that a forward in training mode writes into; none where it fails."""
        module = self.fresh(training=True)
        before = {name: x.clone() for name, x in state_of(module).items()}
        try:
            self.run(self.inputs(), module=module)
        except Exception:
            return frozenset()
        after = state_of(module)
        both = before.keys() & after.keys()
        same = {name for name in both if torch.equal(before[name].to_dense(), after[name].to_dense())}
        return frozenset((before.keys() | after.keys()) - same)

    @property
    def keeps_state(self) -> bool:
        """Whether training writes into tensors other than those of PyTorch's norms: statistics of the user's own."""
        kind, layers = nn.modules.batchnorm._NormBase, dict(self.skeleton.named_modules())
        return any(not isinstance(layers.get(n.rpartition(".")[0]), kind) for n in self.written_in_training)

    def labels_for(self, outputs: Tensor) -> Tensor:
        """Return the user's labels of as many samples, or labels made up for the loss.

        Raises:
            Inapplicable: it is not known what labels the loss takes.
        """
        if self.labels is not None and self.samples is not None:
            return self.labels[torch.arange(len(outputs)) % len(self.labels)]
        shape = self.loss.labels_shape(tuple(outputs.shape)) if outputs.ndim else None
        labels = made_labels(outputs, self.loss.labels, seed=self.seed, shape=shape)
        if labels is None:
            raise Inapplicable(f"what labels {self.loss.name} takes is not known")
        return labels

    @cached_property
    def seconds_a_sample(self) -> float:
        """Time of one sample's forward, from a batch."""
        module, inputs = self.fresh(), self.inputs()
        self.run(inputs, module=module)
        start = time.thread_time()
        self.run(inputs, module=module)
        return max(time.thread_time() - start, 1e-6) / BATCH

    def affordable(self, batch: int, forwards: int = 1) -> int:
        """Count the samples, of those wanted in each of some forwards, that there is time for; `BATCH` at least."""
        return max(BATCH, min(batch, int(SECONDS / (forwards * self.seconds_a_sample))))

    def each_seed(self, count: int) -> list[int]:
        """List seeds for draws of the module: one where it was given built."""
        return [self.seed] if self.given_module else [self.seed + i for i in range(count)]


def on_simplex(outputs: Tensor, tolerance: float) -> bool:
    """Tell whether outputs are not negative and sum to 1 over dimension 1, up to a tolerance."""
    if outputs.ndim < 2 or outputs.shape[1] < 2 or not outputs.is_floating_point():
        return False
    return float(outputs.min()) >= 0 and float((outputs.sum(1) - 1).abs().max()) <= tolerance


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name, without those of lazy layers, which their first forward draws."""
    tensors = (*module.named_parameters(), *module.named_buffers())
    return {name: x.detach() for name, x in tensors if not is_lazy(x)}
