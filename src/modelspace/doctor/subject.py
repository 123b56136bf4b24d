"""The model under examination: what rules ask of it is computed once, and never on the user's own module."""

import time
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from modelspace.construction import Architecture, copied
from modelspace.doctor.samples import known_tokens, made_inputs, made_labels, seed_all
from modelspace.doctor.trace import Operation, Trace, first_tensor, output_of, record
from modelspace.errors import ModelspaceError
from modelspace.losses import Loss

# Samples in a probe's batch: a prime that sizes within a model are unlikely to be.
BATCH = 5
# What a probe may keep in memory and run in seconds on two cores: a forward of ResNet-152 on BATCH images.
LARGEST_PARAMETERS = 100_000_000
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
        labels: Their labels.
        classes: The number of classes that the user declared.
        seed: Of the module and of everything random.
    """

    architecture: Architecture
    shape: tuple[int, ...] | None = None
    input_dtype: torch.dtype = torch.float32
    tokens: int | None = None
    given_loss: Loss | None = None
    formula: Loss | None = None
    samples: Tensor | None = None
    labels: Tensor | None = None
    classes: int | None = None
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
        """Make a module that nobody else has: drawn with the seed, or a copy of the one that was given.

        Args:
            training: Its mode.
            seed: Of another draw; a given module has one draw only.
        """
        if self.given_module:
            module = self.architecture.as_given()
        else:
            module = self.architecture.drawn(self.seed if seed is None else seed)
        return module.train(training)

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
            raise ModelspaceError("one sample's shape is not known: inputs=(…), --input on the command line")
        wanted = self.shape if shape is None else shape
        if device == "cpu" and self.samples is not None and wanted == self.shape:
            rows = torch.arange(batch) % len(self.samples)
            batched = self.samples[rows].to(self.dtype)
        else:
            number = self.seed if seed is None else seed
            batched = made_inputs(batch, wanted, self.dtype, self._tokens, seed=number, device=device)
        return batched * scale if scale != 1 and batched.is_floating_point() else batched

    @cached_property
    def _tokens(self) -> int:
        return self.tokens or known_tokens(self.skeleton)

    def run(self, inputs: Tensor, *, module: nn.Module | None = None, seed: int | None = None) -> Tensor:
        """Return the outputs of a module, without gradients; random numbers start at the seed.

        Args:
            inputs: A batch.
            module: What is run, in the mode it has; a fresh one in evaluation mode where None.
            seed: Of the random numbers that the forward draws.
        """
        module = self.fresh() if module is None else module
        seed_all(self.seed if seed is None else seed)
        with torch.no_grad():
            return output_of(module(inputs))

    def shaped(self, batch: int, shape: tuple[int, ...] | None = None) -> Tensor | None:
        """Return outputs without values for a batch of any size and shape; None where the forward fails on it.

        Args:
            batch: Samples.
            shape: One sample's shape; the model's own where None.
        """
        if batch == BATCH and shape is None and self.trace.failure is None:
            return first_tensor(self.trace.result)
        try:
            module = copied(self.skeleton, "meta").eval()
            with torch.no_grad():
                return first_tensor(module(self.inputs(batch, shape=shape, device="meta")))
        except Exception as error:
            if self.too_large or not _needs_values(error):
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
        """Record a forward of a fresh module; of shapes alone where the model is too large to run.

        Args:
            training: The mode.
            batch: Samples.
            seed: Of the module and the samples.
        """
        seed = self.seed if seed is None else seed
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
        return frozenset(
            name
            for name, x in before.items()
            if name not in after or not torch.equal(x.to_dense(), after[name].to_dense())
        ) | (after.keys() - before.keys())

    @property
    def keeps_state(self) -> bool:
        """Whether training writes into tensors other than those of PyTorch's norms: statistics of the user's own."""
        norms = [
            n
            for n, layer in self.skeleton.named_modules()
            if isinstance(layer, nn.modules.batchnorm._NormBase)
        ]
        return any(name.rpartition(".")[0] not in norms for name in self.written_in_training)

    def labels_for(self, outputs: Tensor) -> Tensor | None:
        """Return the user's labels of as many samples, or labels made up for the loss."""
        if self.labels is not None and self.samples is not None:
            return self.labels[torch.arange(len(outputs)) % len(self.labels)]
        shape = self.loss.labels_shape(tuple(outputs.shape)) if outputs.ndim else None
        return made_labels(outputs, self.loss.labels, seed=self.seed, shape=shape)

    @cached_property
    def seconds_a_sample(self) -> float:
        """Time of one sample's forward, from a batch."""
        module, inputs = self.fresh(), self.inputs()
        self.run(inputs, module=module)
        start = time.thread_time()
        self.run(inputs, module=module)
        return max(time.thread_time() - start, 1e-6) / BATCH

    def affordable(self, batch: int, forwards: int = 1) -> int:
        """Count the samples that there is time for, `BATCH` at least.

        Args:
            batch: Samples wanted in each forward.
            forwards: How many forwards there will be.
        """
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


def _needs_values(error: BaseException) -> bool:
    return isinstance(error, NotImplementedError) or "meta" in str(error).lower()
