"""``ModelSpace``: an architecture with fixed hyper-parameters, H = { f_p : p ∈ ℝⁿ }."""

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from modelspace.errors import ModelspaceError
from modelspace.late import perform
from modelspace.space.anatomy import Anatomy, anatomy
from modelspace.space.architecture import Architecture
from modelspace.space.layout import Layout, layout_of

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
    block of coordinates. Frozen parameters (``requires_grad=False``) are not coordinates: they are kept once,
    with the values of seed 0 (or of the module given), and shared by every point. Buffers belong to a point
    but are not coordinates either.

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
    def frozen_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each frozen parameter, by name."""
        named = self._skeleton.named_parameters()
        return {name: tuple(p.shape) for name, p in named if not p.requires_grad}

    @cached_property
    def buffer_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each buffer, by name."""
        return {name: tuple(b.shape) for name, b in self._skeleton.named_buffers()}

    @cached_property
    def template(self) -> nn.Module:
        """A real module of this space, whose parameters the engine replaces by a population's.

        It holds what all points share: the frozen parameters, and plain tensor attributes.
        """
        module = self._architecture.as_given()
        for layer in module.modules():
            for name, value in vars(layer).items():
                # What a hook computes before each forward, as nn.utils.weight_norm does, can't be copied.
                if isinstance(value, Tensor) and not value.is_leaf:
                    vars(layer)[name] = value.detach()
        return module

    def copied_template(self, apart: Iterable[str] = ()) -> nn.Module:
        """A copy of the template whose frozen parameters are the template's own: they are kept once.

        Args:
            apart: The names of frozen parameters that the copy has for itself.
        """
        named, own = self.template.named_parameters(), set(apart)
        shared = {id(p): p for name, p in named if not p.requires_grad and name not in own}
        return copy.deepcopy(self.template, shared)

    @cached_property
    def frozen(self) -> dict[str, Tensor]:
        """The frozen parameters' values, shared by all points."""
        if not self.frozen_shapes:
            return {}
        return {n: p.detach() for n, p in self.template.named_parameters() if not p.requires_grad}

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
        if batch is not None:
            if batch not in self._anatomies:
                self._anatomies[batch] = anatomy(
                    self._skeleton, self.input_shape, batch=batch, input_dtype=self.sample_dtype
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
        """The module that ``torch.manual_seed(seed); Arch()`` makes; no generator is disturbed."""
        return self._architecture.drawn(seed)

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
        buffers = {name: given[name].clone() for name in self.buffer_shapes if name in given}
        return Reading(torch.cat(parts), buffers)

    def point(self, source: nn.Module | Mapping[str, Tensor]) -> Float[Tensor, "parameter"]:
        """The coordinates of a module or state dict: the inverse of ``module``, exact.

        Raises:
            ModelspaceError: it is not a point of this space; every difference is listed.
        """
        return self.read(source).point

    def module(
        self, point: Float[Tensor, "parameter"], buffers: Mapping[str, Tensor] | None = None
    ) -> nn.Module:
        """The plain ``nn.Module`` at a point, on the point's device: nothing of this library is left in it.

        Args:
            point: n coordinates.
            buffers: Its buffers; those of the template where None.

        Raises:
            ModelspaceError: the point is not n numbers.
        """
        if tuple(point.shape) != (self.dimension,):
            raise ModelspaceError(
                f"a point of {self.title} has shape ({self.dimension},); received {tuple(point.shape)}"
            )
        module = copy.deepcopy(self.template).to(point.device)
        with torch.no_grad():
            parameters = dict(module.named_parameters())
            for name, value in self.layout.views(point).items():
                parameters[name].copy_(value)
            own = dict(module.named_buffers())
            for name, value in (buffers or {}).items():
                own[name].copy_(value)
        return module

    def _differences(self, given: Mapping[str, Tensor]) -> list[str]:
        blocks = {b.name: b.shape for b in self.layout}
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
            for name, value in self.frozen.items()
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
        from_arguments = ", ".join(f"{k}={v!r}" for k, v in self.hyperparameters.items())
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

    def signature(self) -> str:
        """A text that changes with the architecture: its modules, its coordinates, and its forward's source."""
        try:
            source = inspect.getsource(type(self._skeleton))
        except (OSError, TypeError):
            source = ""
        return f"{self.title}\n{self._skeleton!r}\n{list(self.layout)!r}\n{source}"

    def __repr__(self) -> str:
        from modelspace.space.card import text_card

        return text_card(self)

    def _repr_html_(self) -> str:
        from modelspace.space.card import html_card

        return html_card(self)
