"""How a module is made: from a class or factory with its arguments, or from an existing module; its copies."""

import copy
import dataclasses
import inspect
import random
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from math import prod
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.utils._python_dispatch import TorchDispatchMode

from modelspace.errors import ModelspaceError, told
from modelspace.loading import load_architecture
from modelspace.memory import free_bytes


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run the block as if right after ``torch.manual_seed(seed)``; the caller's generators stay untouched."""
    with torch.random.fork_rng():
        seed_torch(seed)
        yield


def seed_torch(seed: int) -> None:
    """Do what ``torch.manual_seed(seed)`` does, on machines that have no accelerator in no time."""
    # There it takes 0.3 ms to 1 ms, to keep the stack of the call for each kind of them, for when one comes.
    (torch if torch.accelerator.is_available() else torch.default_generator).manual_seed(seed)


@contextmanager
def seeded_elsewhere(seed: int) -> Iterator[list[str]]:
    """Run the block as if right after ``random.seed(seed)`` and ``numpy.random.seed(seed % 2**32)``.

    The caller's generators stay untouched.

    Returns:
        A list which, after the block, names the generators that it drew from: ``random``, ``numpy.random``.
    """
    before = random.getstate(), np.random.get_state()  # noqa: NPY002 (the one that users' code draws from)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    begun = _states()
    drew: list[str] = []
    try:
        yield drew
    finally:
        drew += [name for name, state in _states().items() if state != begun[name]]
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002


def _states() -> dict[str, Any]:
    """Where Python's and NumPy's generators are, comparable."""
    _, key, *rest = np.random.get_state()  # noqa: NPY002
    return {"random": random.getstate(), "numpy.random": (np.asarray(key).tobytes(), *rest)}


@runtime_checkable
class Made(Protocol):
    """What knows the class, factory or module that it was made from, with its arguments, as a space does."""

    @property
    def architecture(self) -> nn.Module | Callable[..., nn.Module]:
        """The class, factory or module."""
        ...

    hyperparameters: dict[str, Any]


Source = nn.Module | Callable[..., nn.Module] | Made | str


def made_of(architecture: Source, given: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
    """Return the class, factory or module that an architecture is, and the arguments that it is called with.

    Args:
        architecture: A class, a factory, a module, a space, or a target as on the command line: ``"net.py:Net"``,
            ``"torchvision:resnet18"``.
        given: Arguments; they go before a space's own.

    Raises:
        ModelspaceError: there is no such target.
    """
    if isinstance(architecture, str):
        return load_architecture(architecture), dict(given or {})
    if isinstance(architecture, Made) and not isinstance(architecture, nn.Module | type):
        return architecture.architecture, {**architecture.hyperparameters, **(given or {})}
    return architecture, dict(given or {})


class Architecture:
    """What makes a module, once for each seed.

    Args:
        source: A class or factory (called with ``hyperparameters``), or an ``nn.Module``, whose submodules
            are drawn anew by their own ``reset_parameters()``.
        hyperparameters: The keyword arguments of the class or factory.
        input_shape: One sample's shape, from which lazy modules learn theirs.
        dtype: The floating-point type to cast the module to; as built where None.
        input_dtype: The type of the samples.

    Raises:
        ModelspaceError: arguments are missing or unknown, or building fails.
    """

    def __init__(
        self,
        source: Source,
        hyperparameters: Mapping[str, Any],
        input_shape: tuple[int, ...] | None,
        dtype: torch.dtype | None,
        input_dtype: torch.dtype,
    ):
        made, hyperparameters = made_of(source, hyperparameters)
        self.source: nn.Module | Callable[..., nn.Module] = made
        self.hyperparameters = hyperparameters
        self.input_shape = input_shape
        self.dtype = dtype
        self.input_dtype = input_dtype
        self.name = type(made).__name__ if isinstance(made, nn.Module) else _name_of(made)
        self.title = title_of(made, hyperparameters)
        self._elsewhere: bool | None = None  # whether building draws from Python's or NumPy's generator
        self._repeatable = False
        self._fits = False  # whether it was built in memory before
        if isinstance(made, nn.Module):
            if hyperparameters:
                raise ModelspaceError(
                    f"{self.name} is already built, so it takes no arguments ({', '.join(hyperparameters)}): "
                    "give its class instead"
                )
        else:
            _check_arguments(made, self.name, hyperparameters)

    def on_meta(self) -> nn.Module:
        """The module with nothing allocated; built in memory where its constructor needs real values."""
        if isinstance(self.source, nn.Module):
            return self.drawn(0) if is_lazy(self.source) else self._finished(copied(self.source, "meta"))
        try:
            with torch.random.fork_rng(), seeded_elsewhere(0), torch.device("meta"):
                return self._finished(self._called())
        except ModelspaceError:
            raise
        except Exception:
            # Constructors that read values (.item(), .tolist()) can't run without any; real memory can.
            return self.drawn(0)

    def drawn(self, seed: int) -> nn.Module:
        """The module as ``torch.manual_seed(seed); Arch()`` makes it, in memory.

        Python's and NumPy's generators are seeded too, with ``random.seed(seed)`` and
        ``numpy.random.seed(seed % 2**32)``: what they draw would be no function of the seed otherwise.
        """
        if self._elsewhere is False:
            return self._drawn(seed)
        with seeded_elsewhere(seed) as drew:
            module = self._drawn(seed)
        self._elsewhere = bool(drew)
        return module

    def drawn_again(self, seed: int) -> nn.Module:
        """The module as ``drawn`` makes it; the first one is made twice, and held against itself.

        Raises:
            ModelspaceError: the same seed makes another module each time.
        """
        module = self.drawn(seed)
        if not self._repeatable:
            again = self.drawn(seed)
            for name, value in [*module.named_parameters(), *module.named_buffers()]:
                other = (
                    again.get_parameter(name) if isinstance(value, nn.Parameter) else again.get_buffer(name)
                )
                # Factorisations (LAPACK) are not repeatable to the last bit.
                if not same(value, other, tolerance=1e-4):
                    raise ModelspaceError(
                        f"{self.title} made twice with one seed has two different {name}: it is drawn by a generator "
                        "that torch.manual_seed, random.seed and numpy.random.seed don't reach; draw it by "
                        "torch.rand or the like, or give that generator a fixed seed"
                    )
            self._repeatable = True
        return module

    def _drawn(self, seed: int) -> nn.Module:
        with seeded(seed):
            if not isinstance(self.source, nn.Module):
                return self._finished(self._called())
            module = self._finished(copy.deepcopy(self.source))
            for name, child in module.named_modules():
                own = [p for p in child.parameters(recurse=False) if p.requires_grad]
                reset = getattr(child, "reset_parameters", None)
                if own and not callable(reset):
                    raise ModelspaceError(
                        f"layer {name or self.name} ({type(child).__name__}) has no reset_parameters(), "
                        f"so a new point can't be drawn from a built {self.name}: give its class instead"
                    )
                if callable(reset) and (own or not any(True for _ in child.parameters(recurse=False))):
                    reset()
            return module

    def as_given(self, seed: int = 0) -> nn.Module:
        """A module that nobody else has: a copy of the given one, or made anew where a class or factory was given.

        What is made anew is whole, where a copy's closures, hooks and weak references still point into the original.

        Args:
            seed: What a class or factory is called with.
        """
        if not isinstance(self.source, nn.Module) or is_lazy(self.source):
            return self.drawn(seed)
        module = self._finished(copy.deepcopy(self.source))
        originals = self.source.named_parameters()
        for (_, parameter), (_, original) in zip(module.named_parameters(), originals, strict=True):
            for hook in (original._backward_hooks or {}).values():  # a copied tensor comes without them
                parameter.register_hook(hook)
        return module

    def _called(self) -> nn.Module:
        assert not isinstance(self.source, nn.Module)
        try:
            on_meta = torch.get_default_device().type == "meta"
            with nullcontext() if self._fits or on_meta else _WithinMemory(self.title):
                module = self.source(**self.hyperparameters)
            self._fits = self._fits or not on_meta
        except ModelspaceError:
            raise
        except Exception as error:
            if torch.get_default_device().type == "meta":
                raise
            given = ", ".join(f"{k}={v!r}" for k, v in self.hyperparameters.items())
            several = [k for k, v in self.hyperparameters.items() if isinstance(v, tuple | list)]
            each = f"; one value of {', '.join(several)} makes one space, several a family: give one, or use "
            hint = f"{each}ms.Family" if several else ""
            raise ModelspaceError(f"{self.name}({given}) can't be built: {told(error)}{hint}") from error
        if not isinstance(module, nn.Module):
            raise ModelspaceError(f"{self.name} made a {type(module).__name__}, not an nn.Module")
        return module

    def _finished(self, module: nn.Module) -> nn.Module:
        for name, layer in module.named_modules():
            kind = type(layer)
            if kind.__name__ in _WRAPPERS and kind.__module__.startswith("torch."):
                raise ModelspaceError(
                    f"{f'layer {name}' if name else self.name} is wrapped by {_WRAPPERS[kind.__name__]}: give the "
                    "module inside; the step of a population is compiled, and shared out, as a whole"
                )
            layer._compiled_call_impl = None  # module.compile(): the same function
        if self.dtype is not None:
            module = module.to(self.dtype)
        if not is_lazy(module):
            return module
        if self.input_shape is None:
            raise ModelspaceError(
                f"{self.name} has lazy layers, which learn their shape from an input: "
                "give input_shape=(…), one sample's shape"
            )
        training = module.training
        device = next(p for p in module.parameters()).device
        sample = torch.zeros(1, *self.input_shape, device=device, dtype=self.dtype or self.input_dtype)
        with torch.no_grad():
            module.eval()(sample)
        return module.train(training)


class _WithinMemory(TorchDispatchMode):
    """Refuse a tensor that there is no memory for before it is made, and a network of endless layers.

    Without it the system ends the process when the tensor is filled.
    """

    def __init__(self, title: str):
        super().__init__()
        self.title = title
        self.made = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        device = torch.device(kwargs.get("device") or "cpu")
        if func._schema.arguments and func._schema.arguments[0].name == "size" and device.type != "meta":
            self.made += 1
            numbers = prod(int(size) for size in args[0])
            needed = numbers * (kwargs.get("dtype") or torch.get_default_dtype()).itemsize
            if needed > _LARGE and needed > (free := free_bytes(device)):
                raise ModelspaceError(
                    f"{self.title} is too large for this machine: it makes a tensor of {numbers:,} numbers, "
                    f"{needed / 2**30:,.1f} GiB, and {free / 2**30:,.1f} GiB are free; what it costs, with nothing "
                    "allocated: ms.inspect"
                )
            if self.made > _MOST_TENSORS:
                raise ModelspaceError(
                    f"{self.title} makes more than {_MOST_TENSORS:,} tensors: one forward would take seconds, and a "
                    "step of the population hours; what it costs: ms.inspect"
                )
        return func(*args, **kwargs)


_LARGE = 2**26  # bytes from which on it is worth asking how much is free
_MOST_TENSORS = 100_000  # the largest published networks have some thousand

_WRAPPERS = {
    "OptimizedModule": "torch.compile",
    "DataParallel": "nn.DataParallel",
    "DistributedDataParallel": "DistributedDataParallel",
    "FullyShardedDataParallel": "FullyShardedDataParallel",
}


def _name_of(source: Any) -> str:
    return getattr(source, "__name__", None) or type(source).__name__


def title_of(source: Any, hyperparameters: Mapping[str, Any]) -> str:
    """The architecture's name with its arguments: ``MLP(width=64)``."""
    name = type(source).__name__ if isinstance(source, nn.Module) else _name_of(source)
    # Where an object lies in memory is no part of its name.
    given = ", ".join(f"{k}={re.sub(' at 0x[0-9a-fA-F]+', '', repr(v))}" for k, v in hyperparameters.items())
    return f"{name}({given})" if given else name


def is_lazy(module: nn.Module) -> bool:
    """Whether a module waits for an input to learn its shapes."""
    tensors = [*module.parameters(), *module.buffers()]
    return any(isinstance(t, UninitializedParameter | UninitializedBuffer) for t in tensors)


def _check_arguments(source: Any, name: str, given: Mapping[str, Any]) -> None:
    if not callable(source):
        raise ModelspaceError(
            f"an architecture is a class, a factory or an nn.Module; received a {type(source).__name__}"
        )
    try:
        signature = inspect.signature(source)
    except (TypeError, ValueError):
        return
    parameters = signature.parameters.values()
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    needed = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name not in given
    ]
    unknown = [] if open_ended else [k for k in given if k not in known]
    problems = []
    if needed:
        problems.append(f"needs {', '.join(needed)}: give {' and '.join(f'{n}=…' for n in needed)}")
    if unknown:
        takes = ", ".join(known) or "none"
        problems.append(f"has no argument {', '.join(unknown)} (it takes: {takes})")
    if problems:
        raise ModelspaceError(f"{name} " + "; it ".join(problems))


def copied(module: nn.Module, device: str) -> nn.Module:
    """A copy whose tensors are on a device; ties stay ties, which ``module.to("meta")`` would undo.

    Args:
        module: Any module.
        device: ``"meta"`` for a copy that allocates nothing; a meta tensor elsewhere becomes zeros.

    Raises:
        ModelspaceError: the module refuses to be copied.
    """

    def moved(tensor: Tensor) -> Tensor:
        if device == "meta" or tensor.is_meta:
            data = (torch.empty_like if device == "meta" else torch.zeros_like)(tensor, device=device)
        else:
            data = tensor.detach().clone().to(device)
        if isinstance(tensor, nn.Parameter):
            return nn.Parameter(data, requires_grad=tensor.requires_grad)
        return data

    return with_tensors(module, moved)[0]


def with_tensors(
    module: nn.Module, change: Callable[[Tensor], Tensor]
) -> tuple[nn.Module, dict[int, Tensor]]:
    """A copy of a module with each tensor changed; a tensor met twice (a tie) is changed once.

    Args:
        module: Any module.
        change: Makes a tensor's substitute.

    Returns:
        The copy, and each tensor's substitute by the identity of the tensor.

    Raises:
        ModelspaceError: the module refuses to be copied.
    """
    memo: dict[int, Any] = {}
    for tensor in held_tensors(module):
        if id(tensor) not in memo:
            memo[id(tensor)] = change(tensor)
    changed: dict[int, Tensor] = dict(memo)
    try:
        found = copy.deepcopy(module, memo)
    except Exception as error:
        raise ModelspaceError(f"{type(module).__name__} can't be copied: {error}") from error
    for before, after in zip(module.modules(), found.modules(), strict=True):
        if isinstance(before, torch.jit.ScriptModule):
            # TorchScript copies its tensors itself, without the memo.
            for name, tensor in (*before._parameters.items(), *before._buffers.items()):
                if tensor is not None:
                    setattr(after, name, changed[id(tensor)])
        elif isinstance(after, nn.DataParallel):
            after.device_ids = []  # the copy is on one device, the CPU
    return found, changed


def held_tensors(module: nn.Module) -> list[Tensor]:
    """Parameters, buffers, and tensors kept as plain attributes, in lists and dictionaries too; ties repeat."""
    return [tensor for layer in module.modules() for tensor in _tensors_of(layer)]


def _tensors_of(layer: nn.Module) -> Iterator[Tensor]:
    for owned in (layer._parameters, layer._buffers):
        yield from (tensor for tensor in owned.values() if tensor is not None)
    seen: set[int] = set()
    for name, value in vars(layer).items():
        if name not in ("_parameters", "_buffers", "_modules"):
            yield from _held(value, seen)


def _held(value: Any, seen: set[int]) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif id(value) not in seen and isinstance(value, list | tuple | dict):
        seen.add(id(value))
        for item in value.values() if isinstance(value, dict) else value:
            yield from _held(item, seen)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type) and id(value) not in seen:
        seen.add(id(value))
        for item in vars(value).values() if hasattr(value, "__dict__") else ():
            yield from _held(item, seen)


def apart_from(module: nn.Module, other: nn.Module) -> nn.Module:
    """The module, sharing no memory with another that the same callable built.

    A callable may put one tensor into every network that it builds (class weights, a pretrained table), or one layer
    (a backbone): what one network writes there is in all of them. A shared layer is copied with all of the module; a
    shared tensor gets memory of its own.

    Args:
        module: It; what it shares is replaced in it.
        other: What stays as it is.
    """
    if module is other or {id(x) for x in module.modules()} & {id(x) for x in other.modules()}:
        return copy.deepcopy(module)
    theirs = [*other.parameters(), *other.buffers()]
    objects, memory = set(map(id, theirs)), {place for x in theirs if (place := _memory(x))}
    own: dict[int, Tensor] = {}
    for layer in module.modules():
        for held in cast(list[dict[str, Any]], [layer._parameters, layer._buffers]):
            for name, value in held.items():
                if value is None or _memory(value) not in memory:
                    continue
                if id(value) in objects:
                    held[name] = own.setdefault(id(value), _copied(value))
                else:
                    value.data = value.data.clone()
    return module


def _memory(value: Tensor) -> int | None:
    """Where a tensor's numbers are; None where it has none of its own."""
    if value.is_meta or value.layout is not torch.strided or not value.numel():
        return None
    return value.untyped_storage().data_ptr()


def _copied(value: Tensor) -> Tensor:
    data = value.detach().clone()
    return nn.Parameter(data, requires_grad=value.requires_grad) if isinstance(value, nn.Parameter) else data


def same(first: Tensor, second: Tensor, tolerance: float = 0.0) -> bool:
    """Whether two tensors are equal, NaN included; or nearly so, by their norms."""
    if first.shape != second.shape or first.layout != second.layout:
        return False
    if first.is_meta or first is second:
        return True
    a, b = (x.detach().to_dense() if x.layout is not torch.strided else x.detach() for x in (first, second))
    if torch.equal(a, b):
        return True
    if not (a.is_floating_point() or a.is_complex()):
        return False
    a, b = a.nan_to_num(), b.nan_to_num()
    return torch.equal(a, b) or bool((a - b).norm() <= tolerance * b.norm())
