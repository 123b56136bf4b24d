"""``ModelSpace``: an architecture with fixed hyper-parameters, H = { f_p : p ∈ ℝⁿ }."""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from modelspace.code import Code, code_of
from modelspace.construction import Architecture, apart_from, same, seeded_elsewhere
from modelspace.cost import Anatomy, anatomy, on_values
from modelspace.errors import ModelspaceError
from modelspace.late import perform
from modelspace.space._layout import Layout, layout_of

if TYPE_CHECKING:
    from modelspace.population import Population


class Reading(NamedTuple):
    """A module read as a point: its coordinates, and its buffers, which are not coordinates."""

    point: Shaped[Tensor, "parameter"]
    buffers: dict[str, Tensor]


class ModelSpace:
    """The space of functions that one architecture can be, H = { f_p : p ∈ ℝⁿ }.

    Building a space allocates nothing: the module is made on PyTorch's meta device. A *point* p is the
    concatenation of the trainable parameters in the order of ``named_parameters()``. A tied parameter is one
    block of coordinates. Frozen parameters (``requires_grad=False``) are not coordinates: those that are the same
    for every seed, as a pretrained base is, are kept once and shared by every point. Those that differ between
    seeds (random features), or that the forward writes into (a target by moving average), belong to a point as
    buffers do, which are not coordinates either.

    Args:
        architecture: A class or factory, or an ``nn.Module``. From a module, new points are drawn by calling
            ``reset_parameters()`` of its submodules; its frozen parameters stay as they are.
        input_shape: One sample's shape without the batch, ``(3, 7, 7)``. Needed for the anatomy (output
            shapes, cost) and for lazy layers.
        dtype: Cast the module to this floating-point type; as built where None.
        input_dtype: The type of the samples, ``torch.long`` for embeddings.
        **hyperparameters: The architecture's own arguments; other values make another space.

    Raises:
        ModelspaceError: arguments missing or unknown, no trainable parameter, mixed types, or lazy layers
            without ``input_shape``.

    Example:
        >>> space = ModelSpace(nn.Linear, in_features=4, out_features=3)
        >>> space.dimension
        15
        >>> [(b.name, b.shape, b.start, b.stop) for b in space.layout]
        [('weight', (3, 4), 0, 12), ('bias', (3,), 12, 15)]
    """

    def __init__(
        self,
        architecture: nn.Module | Callable[..., nn.Module],
        /,
        *,
        input_shape: Iterable[int] | None = None,
        dtype: torch.dtype | None = None,
        input_dtype: torch.dtype = torch.float32,
        **hyperparameters: Any,
    ):
        shape = None if input_shape is None else tuple(int(size) for size in input_shape)
        self._architecture = Architecture(architecture, hyperparameters, shape, dtype, input_dtype)
        self._skeleton = self._architecture.on_meta()
        self.name: str = self._architecture.name
        self.hyperparameters: dict[str, Any] = dict(hyperparameters)
        self.input_shape = shape
        self.input_dtype = input_dtype
        self.layout: Layout = layout_of(self._skeleton)
        self._anatomies: dict[int, Anatomy] = {}
        self._repeatable = False

    @property
    def architecture(self) -> nn.Module | Callable[..., nn.Module]:
        """The class, factory or module that the space was made from."""
        return self._architecture.source

    @property
    def dimension(self) -> int:
        """n, the number of coordinates: trainable numbers, tied ones counted once."""
        return self.layout.dimension

    @property
    def dtype(self) -> torch.dtype:
        """The type of the coordinates."""
        return self.layout.dtype

    @cached_property
    def own_frozen(self) -> tuple[str, ...]:
        """The frozen parameters that each point has for itself.

        They differ between seeds 0 and 1, or a forward in training writes into them, which is tried where
        ``input_shape`` is known.
        """
        named = {name: p for name, p in self._skeleton.named_parameters() if not p.requires_grad}
        if not named:
            return ()
        first, second = dict(self.template.named_parameters()), dict(self.fresh(1).named_parameters())
        written = self._written_in_a_trial()
        return tuple(n for n in named if n in written or not same(first[n], second[n]))

    def _written_in_a_trial(self) -> set[str]:
        """The frozen parameters that a forward in training, on made-up samples, writes into."""
        if self.input_shape is None:
            return set()
        _ = self.code  # as it is before a forward runs
        module = self.fresh().train()
        frozen = {name: p for name, p in module.named_parameters() if not p.requires_grad}
        before = {name: (p.detach().clone(), p._version) for name, p in frozen.items()}
        make = torch.randn if self.sample_dtype.is_floating_point else torch.ones
        with torch.random.fork_rng(), seeded_elsewhere(0):
            try:
                module(make(2, *self.input_shape).to(self.sample_dtype))
            except Exception:
                return set()  # made-up samples may not fit; the first real batch is looked at again
        return {n for n, p in frozen.items() if p._version != before[n][1] or not same(p, before[n][0])}

    @cached_property
    def frozen_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each frozen parameter, by name."""
        named = self._skeleton.named_parameters()
        return {name: tuple(p.shape) for name, p in named if not p.requires_grad}

    @cached_property
    def buffer_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor that a point has beside its coordinates: buffers, and ``own_frozen``."""
        return {name: tuple(value.shape) for name, value in self.buffers_of(self._skeleton).items()}

    def buffers_of(self, module: nn.Module) -> dict[str, Tensor]:
        """A module's buffers and ``own_frozen`` parameters, by name.

        Sparse buffers, which can't be stacked, stay with the module.
        """
        own, buffers = self.own_frozen, module.named_buffers()
        found = {name: value for name, value in buffers if value.layout is torch.strided}
        parameters = dict(module.named_parameters()) if own else {}
        return {**found, **{name: parameters[name].detach() for name in own}}

    @cached_property
    def template(self) -> nn.Module:
        """A real module of this space, which nobody writes into.

        It holds what all points share: the frozen parameters, and plain tensor attributes.
        """
        return self._built(0)

    def fresh(self, seed: int = 0) -> nn.Module:
        """A real module of this space that nobody else has: a copy of the module given, or one built anew.

        Args:
            seed: Of the draw, where a class or factory was given.
        """
        return self.apart(self._built(seed))

    def apart(self, module: nn.Module) -> nn.Module:
        """A module in memory of its own, where the callable shares tensors or layers between all that it builds."""
        return apart_from(module, self.template)

    def _built(self, seed: int) -> nn.Module:
        module = self._architecture.as_given(seed)
        for layer in module.modules():
            for name, value in vars(layer).items():
                # What a hook computes before each forward, as nn.utils.weight_norm does, can't be copied.
                if isinstance(value, Tensor) and not value.is_leaf:
                    vars(layer)[name] = value.detach()
        return module

    def working_copy(self) -> nn.Module:
        """A module to compute with, whose shared frozen parameters are the template's own: they are kept once."""
        module, shared = self.fresh(), self.shared
        for name, parameter in module.named_parameters():
            if name in shared:
                parameter.data = shared[name]
        return module

    @cached_property
    def frozen(self) -> dict[str, Tensor]:
        """The frozen parameters' values in the module given, or in seed 0's."""
        if not self.frozen_shapes:
            return {}
        return {n: p.detach() for n, p in self.template.named_parameters() if not p.requires_grad}

    @cached_property
    def shared(self) -> dict[str, Tensor]:
        """Those of the frozen parameters that all points share: all but ``own_frozen``."""
        return {name: value for name, value in self.frozen.items() if name not in self.own_frozen}

    def anatomy(self, batch: int | None = None) -> Anatomy:
        """Layers, output shapes, FLOP and peak memory of one point.

        Args:
            batch: Samples; the smallest batch that trains where None: 1, or 2 where BatchNorm refuses one.

        Raises:
            ModelspaceError: no ``input_shape`` is known, or the inputs do not fit the architecture.
        """
        if self.input_shape is None:
            raise ModelspaceError(
                f"the anatomy of {self.name} needs one sample's shape: ModelSpace(…, input_shape=(…)), "
                "or --input on the command line"
            )
        _ = self.code  # as it is before the skeleton's forward runs
        if batch is not None:
            if batch not in self._anatomies:
                shape, kind = self.input_shape, self.sample_dtype
                self._anatomies[batch] = on_values(
                    self._skeleton,
                    lambda: self.template,
                    lambda module: anatomy(module, shape, batch=batch, input_dtype=kind),
                    lambda found: found.computed,
                )
            return self._anatomies[batch]
        try:
            return self.anatomy(1)
        except ModelspaceError as error:
            try:
                return self.anatomy(2)
            except ModelspaceError:
                raise error from None

    @property
    def sample_dtype(self) -> torch.dtype:
        """The type of the samples: floating-point samples share the coordinates' type."""
        return self.dtype if self.input_dtype.is_floating_point else self.input_dtype

    def draw(self, seed: int) -> nn.Module:
        """The module that ``torch.manual_seed(seed); Arch()`` makes; no generator is disturbed.

        Python's and NumPy's generators are seeded with it too.

        Raises:
            ModelspaceError: the same seed makes another module each time.
        """
        module = self._architecture.drawn(seed)
        if not self._repeatable:
            self._hold_against(module, self._architecture.drawn(seed))
            self._repeatable = True
        return module

    def _hold_against(self, module: nn.Module, again: nn.Module) -> None:
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            other = again.get_parameter(name) if isinstance(value, nn.Parameter) else again.get_buffer(name)
            # Factorisations (LAPACK) are not repeatable to the last bit.
            if not same(value, other, tolerance=1e-4):
                raise ModelspaceError(
                    f"{self.title} made twice with one seed has two different {name}: it is drawn by a generator "
                    "that torch.manual_seed, random.seed and numpy.random.seed don't reach; draw it by torch.rand or "
                    "the like, or give that generator a fixed seed"
                )

    def sample(self, seeds: Iterable[int] | int, **columns: Any) -> "Population":
        """A population: the product of seeds and columns, one row of P ∈ ℝ^{K×n} each.

        Args:
            seeds: The seeds, 0 … 2⁶³−1, or their number (0, 1, …). Row k is, bit for bit, the module made by
                ``torch.manual_seed(seed); Arch()``.
            **columns: Hyper-parameters that do not change H, by their own names: one value, or several
                (``lr=[1e-3, 1e-2]``); ``data_seed`` gives each member its own order of the data.

        Returns:
            K = len(seeds) × the number of column combinations members; seeds vary fastest.

        Raises:
            ModelspaceError: no seeds, a seed twice or out of range, an empty column.

        Example:
            >>> space = ModelSpace(nn.Linear, in_features=4, out_features=3)
            >>> space.sample(seeds=range(2), lr=[0.01, 0.1]).table
               seed    lr
            0     0  0.01
            1     1  0.01
            2     0  0.10
            3     1  0.10
        """
        return perform("space.sample", self, seeds, columns)

    def read(self, source: nn.Module | Mapping[str, Tensor]) -> Reading:
        """A module or state dict as a point of this space, with its buffers.

        Raises:
            ModelspaceError: names or shapes differ from the layout (all differences are listed), or frozen
                parameters differ from those that this space shares.
        """
        given: dict[str, Tensor]
        if isinstance(source, nn.Module):
            given = {
                **{n: p.detach() for n, p in source.named_parameters(remove_duplicate=False)},
                **dict(source.named_buffers(remove_duplicate=False)),
            }
        else:
            given = dict(source)
        problems = self._differences(given)
        if problems:
            raise ModelspaceError(f"not a point of {self.title}: " + "; ".join(problems))
        parts = [given[block.name].reshape(-1).to(self.dtype) for block in self.layout]
        buffers = {name: given[name].detach().clone() for name in self.buffer_shapes if name in given}
        return Reading(torch.cat(parts), buffers)

    def point(self, source: nn.Module | Mapping[str, Tensor]) -> Float[Tensor, "parameter"]:
        """The coordinates of a module or state dict: the inverse of ``module``, exact.

        Raises:
            ModelspaceError: it is not a point of this space; every difference is listed.
        """
        return self.read(source).point

    def module(
        self, point: Float[Tensor, "parameter"], buffers: Mapping[str, Tensor] | None = None, *, seed: int = 0
    ) -> nn.Module:
        """The plain ``nn.Module`` at a point, on the point's device: nothing of this library is left in it.

        Args:
            point: n coordinates.
            buffers: Its buffers; those of the module built where None.
            seed: What a class or factory is called with before the point is put into what it makes.

        Raises:
            ModelspaceError: the point is not n numbers.
        """
        if tuple(point.shape) != (self.dimension,):
            raise ModelspaceError(
                f"a point of {self.title} has shape ({self.dimension},); received {tuple(point.shape)}"
            )
        module = self.fresh(seed).to(point.device)
        self.write(module, point, buffers or {})
        return module

    def write(
        self, module: nn.Module, point: Float[Tensor, "parameter"], buffers: Mapping[str, Tensor]
    ) -> None:
        """Put a point and buffers into a module of this space."""
        values = {**self.layout.views(point), **buffers}
        own = {**dict(module.named_buffers()), **dict(module.named_parameters())}
        with torch.no_grad():
            for name, value in values.items():
                own[name].copy_(value)

    def _differences(self, given: Mapping[str, Tensor]) -> list[str]:
        blocks = {b.name: b.shape for b in self.layout} | {n: self.buffer_shapes[n] for n in self.own_frozen}
        aliases = {
            name for name, _ in self._skeleton.named_parameters(remove_duplicate=False) if name not in blocks
        } | {name for name, _ in self._skeleton.named_buffers(remove_duplicate=False)}
        problems = [f"it has no {name}" for name in blocks if name not in given]
        problems += [
            f"{name} is {tuple(given[name].shape)} where {shape} is expected"
            for name, shape in blocks.items()
            if name in given and tuple(given[name].shape) != shape
        ]
        known = blocks.keys() | aliases
        problems += [f"{name} is unknown here" for name in given if name not in known]
        problems += [
            f"frozen parameter {name} differs from the one that this space shares"
            for name, value in self.shared.items()
            if name in given and not torch.equal(given[name].detach().to(value.device), value)
        ]
        problems += [
            f"tied parameters {alias} and {name} hold different values"
            for alias, name in self.layout.tied.items()
            if alias in given and name in given and not torch.equal(given[alias], given[name])
        ]
        return problems

    @property
    def title(self) -> str:
        """The architecture's name with its arguments: ``MLP(width=64)``."""
        given = self.hyperparameters.items()
        # Where an object lies in memory is no part of its name.
        from_arguments = ", ".join(f"{k}={re.sub(' at 0x[0-9a-fA-F]+', '', repr(v))}" for k, v in given)
        return f"{self.name}({from_arguments})" if from_arguments else self.name

    def in_dtype(self, dtype: torch.dtype) -> "ModelSpace":
        """The same architecture with coordinates of another floating-point type."""
        return ModelSpace(
            self._architecture.source,
            input_shape=self.input_shape,
            dtype=dtype,
            input_dtype=self.input_dtype,
            **self.hyperparameters,
        )

    @cached_property
    def code(self) -> Code:
        """The code that the architecture reaches: its own, and that of every layer.

        Read before a forward runs: a forward may change what it reads.
        """
        source, arguments = self._architecture.source, self.hyperparameters
        made = () if isinstance(source, nn.Module) else (source,)
        return code_of(*made, self._skeleton, **({"arguments": arguments} if arguments else {}))

    def signature(self) -> str:
        """A text that changes with the architecture: its arguments, its coordinates, and the code that it reaches."""
        return f"{self.title}\n{list(self.layout)!r}\n{self.code.hash}"

    def __repr__(self) -> str:
        from modelspace.space._card import text_card

        return text_card(self)

    def _repr_html_(self) -> str:
        from modelspace.space._card import html_card

        return html_card(self)


def samples_as(inputs: Shaped[Tensor, "..."], dtype: torch.dtype) -> Shaped[Tensor, "..."]:
    """Samples for parameters of this type: floating-point samples are cast to it, integers stay."""
    return inputs.to(dtype) if inputs.is_floating_point() else inputs
