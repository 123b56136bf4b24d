"""The code that an object's calls reach, as a hash of each part by its name; nothing of it is executed.

What is computed depends on more than a class's own text: on the functions that its methods call, the constants that
they read, the cells of closures, defaults, decorators, base classes, the attributes of what was built. From the
objects given, everything of the user's own files is followed. A function is its byte code without lines and
docstring, so that comments and layout don't count; a package that is installed is its version.

The hashes are the same in every process of one Python version: no address, no order of a set is in them.
"""

import argparse
import datetime
import decimal
import dis
import fractions
import functools
import hashlib
import operator
import os
import platform
import re
import sys
import sysconfig
import types
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from modelspace.errors import is_example

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented))
# Values whose text says all of them.
_WRITTEN = (
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
    np.dtype,
    np.generic,
    np.ufunc,
    torch._ops.OpOverload,
    torch._ops.OpOverloadPacket,
    range,
    slice,
    re.Pattern,
    PurePath,
    decimal.Decimal,
    fractions.Fraction,
    datetime.date,
    datetime.timedelta,
    uuid.UUID,
    bytearray,
    operator.itemgetter,
    operator.attrgetter,
    operator.methodcaller,
    types.GenericAlias,
)
_BUILTIN = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
)
_CALLED = (types.FunctionType, types.MethodType, functools.partial)
_NAMESPACES = (types.SimpleNamespace, argparse.Namespace)
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
# PyTorch and Python are in a run's environment; this library decides how members are computed, not what.
_OWN_VERSIONS = frozenset({"torch", "modelspace"})
_DEEPEST = 60


class Code(NamedTuple):
    """What some objects compute with.

    Attributes:
        parts: By name (``act of net.py``, ``Net.forward of net.py``), a hash.
        packages: The installed packages among what is reached, with their versions: ``numpy 2.1.0``.
    """

    parts: dict[str, str]
    packages: tuple[str, ...]

    @property
    def hash(self) -> str:
        """One hash of all parts."""
        return _hash("\n".join(f"{name} {part}" for name, part in sorted(self.parts.items())))


def code_of(*objects: Any, **named: Any) -> Code:
    """Read the code that the calls of these objects reach.

    Args:
        *objects: Functions, classes, modules, or any other values: of an ``nn.Module`` every layer.
        **named: Values that become parts under these names.

    Returns:
        The parts and packages; equal in every process of one Python version that has the same code.

    Example:
        >>> list(code_of(code_of).parts)  # of this library, not the user's
        []
    """
    reader = _Reader()
    with torch._C.DisableTorchFunctionSubclass():
        for value in objects:
            reader.read(value)
        for name, value in named.items():
            reader.read(value, name)
        reader.finish()
    return Code(reader.parts, tuple(sorted(map(_versioned, reader.packages))))


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Say in a line which parts differ: ``act of net.py has changed``; empty where none does."""
    names = [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]
    said = [
        f"{name} {'is new' if name not in before else 'is gone' if name not in now else 'has changed'}"
        for name in names[:3]
    ]
    return ", ".join(said) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def python_version() -> str:
    """The version whose byte code can be compared: ``3.11``."""
    return ".".join(platform.python_version_tuple()[:2])


@dataclass
class _Names:
    """What a function's byte code mentions, those of the functions inside it too."""

    globals: set[str] = field(default_factory=set)
    stored: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    imports: list[tuple[int, str]] = field(default_factory=list)

    @property
    def any_attribute(self) -> bool:
        """Whether attributes are found by names that are computed."""
        return bool({"getattr", "vars"} & self.globals or {"__dict__", "attrgetter"} & self.attributes)

    @property
    def any_global(self) -> bool:
        """Whether globals are."""
        return bool({"globals", "eval", "exec"} & self.globals or "modules" in self.attributes)


class _Reader:
    """Follows references and writes what they lead to as text."""

    def __init__(self) -> None:
        self.parts: dict[str, str] = {}
        self.packages: set[str] = set()
        self._names: dict[Any, str] = {}
        self._taken: Counter[str] = Counter()
        self._todo: deque[tuple[str, Callable[[], str]]] = deque()
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []  # an identity is one as long as its object lives
        self._depth = 0
        self._types_only = False

    def read(self, value: Any, name: str | None = None) -> None:
        """Take an object as one that is called."""
        wraps = _is(value, types.FunctionType) and value.__closure__ and not _is_own(value)
        if _is(value, nn.Module):
            self._layers(value)
        elif name or wraps or not _is(value, type, types.FunctionType, types.MethodType, *_BUILTIN):
            name = name or f"attributes of {type(value).__name__}"
            self._part(("object", id(value)), name, value, self._text)
        else:
            self._text(value)

    def finish(self) -> None:
        """Write every part that was met."""
        while self._todo:
            name, write = self._todo.popleft()
            self._seen = {}
            self.parts[name] = _hash(write())

    def _part(self, key: Any, name: str, value: Any, write: Callable[[Any], str]) -> str:
        """The reference to a part, which is written later; once, however often it is met."""
        if key not in self._names:
            self._kept.append(value)
            self._taken[name] += 1
            self._names[key] = name if self._taken[name] == 1 else f"{name} ({self._taken[name]})"
            self._todo.append((self._names[key], lambda: write(value)))
        return f"<{self._names[key]}>"

    def _text(self, value: Any) -> str:
        """A value as text: references to parts, and all else in full."""
        kind = type(value)
        if kind in _PLAIN:
            return f"{kind.__name__} {value!r}"
        if self._depth > _DEEPEST:
            return kind.__name__
        self._depth += 1
        try:
            return self._definition(value) or self._structure(value)
        finally:
            self._depth -= 1

    def _definition(self, value: Any) -> str:
        """The text of what can be called or is called through; empty where it is data."""
        if _is(value, types.FunctionType):
            return self._function_reference(value)
        if _is(value, types.MethodType):
            return f"method {self._text(value.__func__)} of {self._text(value.__self__)}"
        if _is(value, functools.partial):
            return f"partial {self._each((value.func, value.args, value.keywords, _attributes(value)))}"
        if _is(value, type):
            return self._class_reference(value)
        if _is(value, types.ModuleType):
            return self._module(value, _Names(), set())
        if _is(value, types.CodeType):
            return self._code(value)
        if _is(value, staticmethod, classmethod):
            return f"{type(value).__name__} {self._text(value.__func__)}"
        if _is(value, property):
            return f"property {self._each((value.fget, value.fset, value.fdel))}"
        if _is(value, functools.cached_property):
            return f"property {self._text(value.func)}"
        if _is(value, functools.partialmethod):
            return f"partial {self._each((value.func, value.args, value.keywords))}"
        if "__wrapped__" in _attributes(value) and _installed(type(value)):
            return f"wrapped {type(value).__name__} {self._text(_attributes(value)['__wrapped__'])}"
        if _is(value, torch.jit.ScriptFunction):
            return f"script {value.code}"
        if _is(value, *_BUILTIN):
            owner = getattr(value, "__self__", None)
            self._package(getattr(value, "__module__", None))
            bound = "" if owner is None or _is(owner, types.ModuleType) else self._text(owner)
            return f"builtin {getattr(value, '__module__', None)}.{value.__qualname__} {bound}"
        return ""

    def _structure(self, value: Any) -> str:
        """The text of data."""
        kind = type(value)
        if _is(value, *_WRITTEN, np.ndarray):
            self._package(kind.__module__)
        if _is(value, *_WRITTEN):
            return f"{kind.__name__} {value!r}"
        own = "" if _installed(kind) else self._text(kind)
        if _is(value, tuple):
            return f"{own}({self._each(tuple.__iter__(value))})"
        if _is(value, set, frozenset):
            return f"{own}set({sorted(map(self._apart, value))})"
        if id(value) in self._seen:
            return f"again {self._seen[id(value)]}"
        self._seen[id(value)] = len(self._seen)
        self._kept.append(value)
        if _is(value, torch.Tensor):
            return f"{own}{_tensor_text(value)}"
        if _is(value, np.ndarray):
            content = self._each(value.ravel().tolist()) if value.dtype.hasobject else _hash(value.tobytes())
            return f"{own}array {value.dtype} {value.shape} {content}"
        if _is(value, list, deque):
            return f"{own}[{self._each(value)}]" + self._state(value, own)
        if _is(value, dict, types.MappingProxyType):
            pairs = dict.items(value) if _is(value, dict) else value.items()
            return f"{own}{{{self._each(part for pair in pairs for part in pair)}}}" + self._state(value, own)
        if _is(value, nn.Module):
            return self._layer(value)
        return f"{kind.__module__}.{kind.__qualname__}{own}" + self._state(value, own)

    def _each(self, values: Iterable[Any]) -> str:
        return ", ".join(map(self._text, values))

    def _apart(self, value: Any) -> str:
        """The text of a set's element: what was met before, in an order that isn't given, is not in it."""
        seen, self._seen = self._seen, {}
        try:
            return self._text(value)
        finally:
            self._seen = seen

    def _state(self, value: Any, own: str) -> str:
        """An object's attributes: all of the user's own kinds, of others those that are public."""
        if own:
            return self._attributes({**_attributes(value), **_slots(value)})
        if self._types_only:
            return ""
        self._package(type(value).__module__)
        if _top(type(value).__module__) in sys.stdlib_module_names and not _is(value, *_NAMESPACES):
            return ""
        shown = {
            n: v for n, v in _attributes(value).items() if not str(n).startswith("_") or _is(v, *_CALLED)
        }
        return self._attributes(shown)

    def _attributes(self, values: Mapping[Any, Any]) -> str:
        return "{" + ", ".join(f"{name}={self._text(value)}" for name, value in values.items()) + "}"

    def _layers(self, module: nn.Module) -> None:
        """Every layer of a module, those of one class as one part."""
        classes: dict[type, list[tuple[str, nn.Module]]] = {}
        for path, layer in module.named_modules():
            classes.setdefault(type(layer), []).append((path, layer))
        for kind, found in classes.items():
            self._part(
                ("layers", id(kind)),
                f"attributes of {kind.__qualname__}",
                found,
                lambda found: "\n".join(f"{path}: {self._own_of(layer)}" for path, layer in found),
            )

    def _layer(self, module: nn.Module) -> str:
        """A module that is no layer of the given one: with all below it."""
        return self._own_of(module) + self._attributes(_attributes(module).get("_modules", {}))

    def _own_of(self, module: nn.Module) -> str:
        """A module without its children."""
        kind, values = type(module), _attributes(module)
        parameters = values.get("_parameters", {}).items()
        buffers = values.get("_buffers", {}).items()
        shapes = [(n, None if p is None else (tuple(p.shape), p.requires_grad)) for n, p in parameters]
        shapes += [(n, None if b is None else tuple(b.shape)) for n, b in buffers]
        hooks = [self._each(values[name].values()) for name in _HOOKS if values.get(name)]
        own = {name: value for name, value in values.items() if name not in _OF_EVERY_MODULE}
        if _installed(kind):
            # Names that begin with an underscore are a package's own business, and differ between its versions.
            plain = () if _top(kind.__module__) == "torch" else _PLAIN
            own = {
                n: v for n, v in own.items() if not n.startswith("_") or _is(v, *_CALLED) or type(v) in plain
            }
        code = ""
        if _is(module, torch.fx.GraphModule):
            code = module.code
        elif _is(module, torch.jit.ScriptModule):
            code = module.code if hasattr(module, "forward") else ""
        return f"{self._text(kind)} {shapes} {hooks} {code} {self._attributes(own)}"

    def _function_reference(self, function: types.FunctionType) -> str:
        code = function.__code__
        if _is_installed_file(code.co_filename, function.__globals__.get("__name__")):
            return self._installed_function(function)
        name = f"{code.co_qualname.replace('.<locals>', '')} of {_place(function.__globals__)}"
        return self._part(id(function), name, function, self._function)

    def _installed_function(self, function: types.FunctionType) -> str:
        """A package's function by its name; and what the user gave it, where it wraps functions of theirs."""
        module = function.__globals__.get("__name__")
        self._package(module)
        with self._types_alone():
            given = [c.cell_contents for c in function.__closure__ or () if _is_filled(c)]
            inner = self._each([*given, _attributes(function).get("__wrapped__")])
        return f"function {module}.{function.__code__.co_qualname} ({inner})"

    @contextmanager
    def _types_alone(self):
        before, self._types_only = self._types_only, True
        try:
            yield
        finally:
            self._types_only = before

    def _function(self, function: types.FunctionType) -> str:
        """A function of the user's: its byte code and all that it reads."""
        names, values = _names_in(function.__code__), function.__globals__
        texts = [self._code(function.__code__), self._text(function.__defaults__)]
        texts += [self._text(function.__kwdefaults__), self._attributes(_attributes(function))]
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        texts += [f"{n}={self._text(c.cell_contents) if _is_filled(c) else 'empty'}" for n, c in cells]
        read = _public(values) if names.any_global else names.globals & values.keys()
        texts += [self._global(values, name, names, set()) for name in sorted(read - names.stored)]
        folder = _folder(function.__code__.co_filename)
        texts += [self._imported(folder, level, name) for level, name in names.imports]
        return "\n".join(texts)

    def _global(self, values: dict[str, Any], name: str, names: _Names, visited: set[int]) -> str:
        """What a name in a module is bound to."""
        value = values[name]
        if _is(value, types.ModuleType):
            return f"{name}={self._module(value, names, visited)}"
        if _is(value, types.FunctionType, type) or type(value) in _BUILTIN:
            return f"{name}={self._text(value)}"
        key, part = (id(values), name), f"{name} of {_place(values)}"
        self._kept.append(values)
        return f"{name}={self._part(key, part, value, self._text)}"

    def _module(self, module: types.ModuleType, names: _Names, visited: set[int]) -> str:
        """A module of the user's: of its names those that a function mentions; all, where names are computed."""
        values = _attributes(module)
        if _is_installed_file(values.get("__file__") or "", values.get("__name__")):
            self._package(values.get("__name__"))
            return f"module {values.get('__name__')}"
        if id(module) in visited:
            return "module"
        visited.add(id(module))
        read = _public(values) if names.any_attribute else names.attributes & values.keys()
        return f"module {', '.join(self._global(values, name, names, visited) for name in sorted(read))}"

    def _imported(self, folder: str, level: int, name: str) -> str:
        """What is imported when a function runs: a file of the user's as a whole, for nothing is executed here."""
        file = _file_of(folder, level, name)
        if file is None:
            self._package(name if not level else None)
            return f"import {name}"
        return f"import {self._part(('file', str(file)), file.name, file, self._file)}"

    def _file(self, file: Path) -> str:
        try:
            code = compile(file.read_bytes(), str(file), "exec", dont_inherit=True)
        except (OSError, SyntaxError, ValueError) as error:
            return f"{type(error).__name__}"
        imports = [self._imported(str(file.parent), *each) for each in _names_in(code).imports]
        return "\n".join([self._code(code), *imports])

    def _class_reference(self, kind: type) -> str:
        if _installed(kind):
            self._package(kind.__module__)
            return f"class {kind.__module__}.{kind.__qualname__}"
        name = f"{kind.__qualname__.replace('.<locals>', '')} of {_place_of_class(kind)}"
        return self._part(id(kind), name, kind, self._class)

    def _class(self, kind: type) -> str:
        """A class of the user's: its bases, its methods, its attributes."""
        texts = [self._each(kind.__bases__), "" if _installed(type(kind)) else self._text(type(kind))]
        for name, value in type.__dict__["__dict__"].__get__(kind).items():
            special = name.startswith("__") and name.endswith("__")
            if name.startswith("_abc_") or _is(value, types.MemberDescriptorType, types.GetSetDescriptorType):
                continue
            if not special and self._is_value(value):
                part = f"{kind.__qualname__.replace('.<locals>', '')}.{name} of {_place_of_class(kind)}"
                texts.append(f"{name}={self._part((id(kind), name), part, value, self._text)}")
            elif not special or _is(value, types.FunctionType, staticmethod, classmethod, property):
                texts.append(f"{name}={self._text(value)}")
        return "\n".join(texts)

    def _is_value(self, value: Any) -> bool:
        named = (types.FunctionType, type, staticmethod, classmethod, property, functools.cached_property)
        return not _is(value, *named, *_BUILTIN)

    def _code(self, code: types.CodeType) -> str:
        """Byte code without lines, names of functions, and docstring."""
        consts = list(code.co_consts)
        if consts and isinstance(consts[0], str) and not _reads_first_constant(code):
            consts[0] = None  # a docstring; where a function has none, None is there
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        return f"{counts} {names} {code.co_code.hex()} {code.co_exceptiontable.hex()} [{self._each(consts)}]"

    def _package(self, module: Any) -> None:
        top = _top(module)
        if top and top not in sys.stdlib_module_names and top not in _OWN_VERSIONS:
            self.packages.add(top)


def _is(value: Any, *kinds: type) -> bool:
    """Whether the value's own type is one of these; ``isinstance`` would ask a ``__class__`` of the user's."""
    return issubclass(type(value), kinds)


def _is_own(function: types.FunctionType) -> bool:
    return _top(function.__globals__.get("__name__")) == "modelspace"


def _attributes(value: Any) -> dict[str, Any]:
    """An object's own attributes, past a ``__getattribute__`` of the user's."""
    if _is(value, type):
        return {}
    try:
        return object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}


def _slots(value: Any) -> dict[str, Any]:
    found = {}
    for base in type(value).__mro__:
        for name, slot in type.__dict__["__dict__"].__get__(base).items():
            if type(slot) is types.MemberDescriptorType and not _installed(base):
                try:
                    found[name] = slot.__get__(value)
                except AttributeError:
                    continue
    return found


def _public(values: Mapping[str, Any]) -> set[str]:
    return {name for name in values if not (name.startswith("__") and name.endswith("__"))}


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _reads_first_constant(code: types.CodeType) -> bool:
    return any(i.arg == 0 and i.opname in ("LOAD_CONST", "RETURN_CONST") for i in dis.get_instructions(code))


def _names_in(code: types.CodeType, found: _Names | None = None) -> _Names:
    found = _Names() if found is None else found
    before: deque[Any] = deque(maxlen=2)  # an import's level and names are the two constants before it
    for instruction in dis.get_instructions(code):
        operation, value = instruction.opname, instruction.argval
        if operation in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            found.stored.add(value)
        elif "GLOBAL" in operation or operation == "LOAD_NAME":
            found.globals.add(value)
        elif operation == "IMPORT_NAME":
            found.imports.append((before[0] if before and isinstance(before[0], int) else 0, value))
        elif isinstance(value, str) and ("ATTR" in operation or "METHOD" in operation):
            found.attributes.add(value)
        before.append(value)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            _names_in(constant, found)
    return found


def _tensor_text(value: torch.Tensor) -> str:
    text = f"tensor {value.dtype} {tuple(value.shape)} {value.requires_grad}"
    if value.is_meta:
        return text
    value = value.detach()
    if value.layout is not torch.strided or value.is_quantized:
        value = value.to_dense() if not value.is_quantized else value.int_repr()
    plain = value.resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    return f"{text} {_hash(plain.view(torch.uint8).numpy().tobytes())}"


def _hash(content: str | bytes) -> str:
    content = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _top(module: Any) -> str:
    return module.partition(".")[0] if isinstance(module, str) else ""


@functools.cache
def _installed_places() -> tuple[str, ...]:
    places = [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    own = os.path.dirname(os.path.abspath(__file__))
    return tuple(f"{os.path.realpath(place)}{os.sep}" for place in (*places, own))


def _is_installed_file(file: str, module: str | None) -> bool:
    """Whether a module is Python's or a package's, not the user's: by its file, by its package where it has none."""
    if os.path.isabs(file):
        return _lies_installed(file)
    top = _top(module)
    if top in sys.stdlib_module_names:
        return True
    file = _attributes(sys.modules.get(top)).get("__file__") or ""
    return os.path.isabs(file) and _lies_installed(file)


@functools.cache
def _lies_installed(file: str) -> bool:
    if is_example(file):
        return False
    parts = Path(file).parts
    if "site-packages" in parts or "dist-packages" in parts:
        return True
    return os.path.realpath(file).startswith(_installed_places())


def _installed(kind: type) -> bool:
    """Whether a class is Python's or a package's."""
    name = kind.__module__ if isinstance(kind.__module__, str) else None
    module = sys.modules.get(name or "")
    if module is None:
        return False
    return _is_installed_file(_attributes(module).get("__file__") or "", name)


def _place(values: Mapping[str, Any]) -> str:
    """The file of a module, without its folders: they differ where a project is moved or run as a script."""
    file, name = values.get("__file__"), values.get("__name__")
    if not isinstance(file, str):
        return "this session" if name in ("__main__", None) else str(name)
    path = Path(file)
    return f"{path.parent.name}/{path.name}" if path.name == "__init__.py" else path.name


def _place_of_class(kind: type) -> str:
    module = sys.modules.get(kind.__module__)
    return _place({"__name__": kind.__module__} if module is None else _attributes(module))


def _folder(file: str) -> str:
    return os.path.dirname(os.path.abspath(file))


def _file_of(folder: str, level: int, name: str) -> Path | None:
    """The file of the user's that an import statement finds; None where it is an installed module or missing."""
    for _ in range(level - 1):
        folder = os.path.dirname(folder)
    places = [folder] if level else [folder, *map(os.path.abspath, sys.path)]
    relative = Path(*name.split(".")) if name else Path()
    for place in places:
        for path in (
            Path(place, relative).with_suffix(".py") if name else None,
            Path(place, relative, "__init__.py"),
        ):
            if path is not None and path.is_file():
                return None if _is_installed_file(str(path), name) else path
    return None


def _versioned(package: str) -> str:
    """A package with its version, as it says itself or its distribution does."""
    module = sys.modules.get(package)
    version = _attributes(module).get("__version__") if module is not None else None
    if not isinstance(version, str):
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            version = "?"
    return f"{package} {version}"
