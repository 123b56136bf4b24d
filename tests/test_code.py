"""Every edit that changes what is computed changes the hash; none that does not."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from modelspace import ModelSpace
from modelspace.code import changed, code_of, python_version

NET = '''import functools
import operator
import re
from collections import namedtuple
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import torch
from torch import nn

import beside
from beside import Base, act
from package import inner

GAIN = 1.0
NAMES = {"relu": torch.relu, "sharp": lambda x: 2.5 * x}
CHOSEN = "relu"
SHIFT = torch.tensor([0.5, 1.5])
TABLE = np.arange(3)
KINDS = frozenset({"alpha", "beta", "gamma", "delta"})
Pair = namedtuple("Pair", "low high")
LIMITS = Pair(-1, 1)
POINTWISE = np.tanh
PICK = operator.itemgetter(0)
PATTERN = re.compile("a+")
unrelated = 1


class Kind(Enum):
    SOFT = 1
    HARD = 2


@dataclass
class Settings:
    power: float = 2.0
    steps: list = field(default_factory=lambda: [1, 2])


class Helper:
    __slots__ = ("bias",)

    def __init__(self, bias):
        self.bias = bias

    def __call__(self, x):
        return x + self.bias


HELPER = Helper(0.25)
SETTINGS = Settings()


class Careful:
    def __getattr__(self, name):
        raise SystemExit("executed")

    @property
    def __class__(self):
        raise SystemExit("executed")


CAREFUL = Careful()


def doubled(function):
    @functools.wraps(function)
    def wrapper(*args):
        return 2 * function(*args)
    return wrapper


@doubled
def decorated(x):
    return x - 7


@torch.no_grad()
def quiet(x):
    return x * 11


@functools.lru_cache
def cached(x=13):
    return x


def scale(x, by=3.0, *, power=1):
    """Scale."""
    return by * x ** power


def closed(amount):
    def inside(x):
        return x * amount
    return inside


def late(x):
    import lazily
    return lazily.act(x)


def named(name):
    return getattr(beside, name)


def never(x):
    return x * 99


class Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, grad):
        return grad * 1.25


class Net(Base):
    """A net."""

    depth = 4

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)
        self.drop = nn.Dropout(0.125)
        self.function = closed(17.0)
        self.all = [functools.partial(scale, by=19.0), act]
        self.kind = Kind.SOFT
        self.register_buffer("positions", torch.arange(3))
        self.layer.register_forward_hook(lambda module, given, made: made * 23)

    @property
    def size(self):
        raise SystemExit("executed")

    @staticmethod
    def still(x):
        return x * 29

    @classmethod
    def of_class(cls, x):
        return x * cls.depth

    def forward(self, x):
        # a comment
        x = NAMES[CHOSEN](GAIN * x) + SHIFT.sum() + TABLE.sum() + LIMITS.low
        x = HELPER(x) ** SETTINGS.power + len(KINDS) + PICK([1]) + bool(PATTERN)
        x = decorated(x) + quiet(x) + cached() + beside.far(x) + inner.deep(x) + late(x)
        x = named("computed")(x) + POINTWISE(1.0) + self.helped(x) + Round.apply(x)
        return [y for y in (self.function(x), CAREFUL)][0]
'''
BESIDE = """from torch import nn
FAR = 31
class Base(nn.Module):
    def helped(self, x):
        return x * 37
def act(x):
    return x * 41
def far(x):
    return x * FAR
def computed(x):
    return x * 43
"""
LAZILY = "from lower import low\ndef act(x):\n    return low(x) * 47\n"
LOWER = "def low(x):\n    return x * 53\n"
INNER = "from . import sibling\ndef deep(x):\n    return sibling.near(x) * 59\n"
SIBLING = "def near(x):\n    return x * 61\n"
FILES = {
    "net.py": NET,
    "beside.py": BESIDE,
    "lazily.py": LAZILY,
    "lower.py": LOWER,
    "package/__init__.py": "",
    "package/inner.py": INNER,
    "package/sibling.py": SIBLING,
}

DIFFERENT = {
    "a constant": ("GAIN = 1.0", "GAIN = 1.5", "GAIN of net.py"),
    "a constant of another type": ("GAIN = 1.0", "GAIN = 1", "GAIN of net.py"),
    "a text": ('CHOSEN = "relu"', 'CHOSEN = "sharp"', "CHOSEN of net.py"),
    "a dictionary of functions": ("torch.relu", "torch.tanh", "NAMES of net.py"),
    "a lambda in a dictionary": ("2.5 * x", "2.75 * x", "<lambda> of net.py"),
    "a tensor": ("[0.5, 1.5]", "[0.5, 1.75]", "SHIFT of net.py"),
    "an array": ("np.arange(3)", "np.arange(1, 4)", "TABLE of net.py"),
    "a set": ('"delta"', '"epsilon"', "KINDS of net.py"),
    "a named tuple": ("Pair(-1, 1)", "Pair(-2, 1)", "LIMITS of net.py"),
    "numpy's function": ("POINTWISE = np.tanh", "POINTWISE = np.sin", "POINTWISE of net.py"),
    "an item getter": ("itemgetter(0)", "itemgetter(-1)", "PICK of net.py"),
    "a pattern": ('"a+"', '"b+"', "PATTERN of net.py"),
    "a helper's slot": ("Helper(0.25)", "Helper(0.5)", "HELPER of net.py"),
    "a helper's method": ("x + self.bias", "x - self.bias", "Helper.__call__ of net.py"),
    "a data class's default": ("power: float = 2.0", "power: float = 3.0", "Settings.power of net.py"),
    "a data class's factory": ("lambda: [1, 2]", "lambda: [1, 3]", "SETTINGS of net.py"),
    "a decorator": ("return 2 * function", "return 3 * function", "doubled.wrapper of net.py"),
    "a decorated function": ("return x - 7", "return x - 8", "decorated of net.py"),
    "a function in PyTorch's decorator": ("x * 11", "x * 12", "quiet of net.py"),
    "a function in a cache": ("cached(x=13)", "cached(x=14)", "cached of net.py"),
    "a default": ("power=1)", "power=2)", "scale of net.py"),
    "a closure's cell": ("closed(17.0)", "closed(17.5)", "closed.inside of net.py"),
    "a closure's code": ("x * amount", "x / amount", "closed.inside of net.py"),
    "a partial's argument": ("by=19.0", "by=19.5", "attributes of Net"),
    "an enum": ("Kind.SOFT\n", "Kind.HARD\n", "attributes of Net"),
    "an enum's value": ("SOFT = 1", "SOFT = 3", "Kind"),
    "a layer's setting": ("Dropout(0.125)", "Dropout(0.25)", "attributes of Dropout"),
    "a hook": ("made * 23", "made * 24", "<lambda>"),
    "a buffer's shape": ("arange(3))\n        self", "arange(4))\n        self", "attributes of Net"),
    "a class's attribute": ("depth = 4", "depth = 5", "Net.depth of net.py"),
    "a static method": ("x * 29", "x * 30", "Net.still of net.py"),
    "a class method": ("x * cls.depth", "x + cls.depth", "Net.of_class of net.py"),
    "a base class's method": ("x * 37", "x * 38", "Base.helped of beside.py"),
    "an imported function": ("x * 41", "x * 42", "act of beside.py"),
    "a constant of an imported module": ("FAR = 31", "FAR = 32", "FAR of beside.py"),
    "a function by a computed name": ("x * 43", "x * 44", "computed of beside.py"),
    "a function imported when it runs": ("low(x) * 47", "low(x) * 48", "lazily.py"),
    "what that one imports": ("x * 53", "x * 54", "lower.py"),
    "a package's module": ("* 59", "* 60", "deep of inner.py"),
    "its sibling": ("x * 61", "x * 62", "near of sibling.py"),
    "an autograd function's backward": ("grad * 1.25", "grad * 1.5", "Round.backward of net.py"),
    "the forward": ("[0]\n", "[-1]\n", "Net.forward of net.py"),
}
SAME = {
    "a comment": ("# a comment", "# another comment\n        # of two lines"),
    "a blank line": ("GAIN = 1.0", "\n\nGAIN = 1.0"),
    "layout": ("GAIN * x)", "(GAIN *\n                x))"),
    "a docstring": ('"""A net."""', '"""A net, described."""'),
    "a function's docstring": ('"""Scale."""', '"""Scale it."""'),
    "a function that nothing calls": ("x * 99", "x * 100"),
    "a constant that nothing reads": ("unrelated = 1", "unrelated = 2"),
    "another function": ("unrelated = 1", "unrelated = 1\ndef more():\n    return GAIN"),
    "the set's order": ('{"alpha", "beta", "gamma", "delta"}', '{"delta", "gamma", "beta", "alpha"}'),
}


def loaded(folder, monkeypatch, edit=("", "")):
    """The net of freshly written files, one of which was edited."""
    assert not edit[0] or sum(text.count(edit[0]) for text in FILES.values()) == 1, edit
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.replace(*edit) if edit[0] else text)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    importlib.invalidate_caches()
    for name in ("net", "beside", "lazily", "lower", "package", "package.inner", "package.sibling"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    spec = importlib.util.spec_from_file_location("net", folder / "net.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "net", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        return ModelSpace(loaded(tmp_path_factory.mktemp("plain"), monkeypatch).Net).code


@pytest.mark.parametrize(("before", "after", "name"), DIFFERENT.values(), ids=DIFFERENT)
def test_an_edit_that_changes_what_is_computed(tmp_path, monkeypatch, plain, before, after, name):
    found = ModelSpace(loaded(tmp_path, monkeypatch, (before, after)).Net).code
    assert found.hash != plain.hash
    assert name in changed(plain.parts, found.parts)


@pytest.mark.parametrize(("before", "after"), SAME.values(), ids=SAME)
def test_an_edit_that_changes_nothing(tmp_path, monkeypatch, plain, before, after):
    found = ModelSpace(loaded(tmp_path, monkeypatch, (before, after)).Net).code
    assert changed(plain.parts, found.parts) == ""
    assert found == plain


def test_it_is_the_same_in_every_process_whatever_the_order_of_sets(tmp_path, monkeypatch, plain):
    loaded(tmp_path, monkeypatch)
    program = "from net import Net; from modelspace import ModelSpace; print(ModelSpace(Net).code.hash)"
    places = ":".join((str(tmp_path), *filter(None, sys.path)))
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": "1", "PYTHONPATH": places},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.stdout.strip() == plain.hash, done.stderr


def test_packages_are_those_that_are_reached_without_pytorch_and_python_s_own(plain):
    assert plain.packages == (f"numpy {np.__version__}",)
    assert sys.version.startswith(f"{python_version()}.")


def test_of_this_library_and_pytorch_nothing_is_read():
    assert code_of(code_of, nn.functional.relu, torch.relu, nn.Linear) == ({}, ())


def test_what_a_package_s_decorator_does_to_a_function_counts():
    def one(x):
        return x

    def other(x):
        return x + 1

    wrapped = [one, torch.no_grad()(one), torch.vmap(one), torch.no_grad()(other), torch.vmap(other), other]
    assert len({code_of(each).hash for each in wrapped}) == len(wrapped)


def test_values_of_every_kind_have_a_text_of_their_own():
    ring = [1]
    ring.append(ring)
    values = [
        None, 0, 0.0, -0.0, False, "0", b"0", (), [], {}, set(), (0,), [0], {0: 0}, {0}, ring, 1j, ..., range(3),
        slice(3), float("nan"), torch.zeros(1), torch.zeros(1, dtype=torch.int32), torch.zeros(1, 1),
        torch.ones(1, device="meta"), torch.eye(2).to_sparse(), torch.zeros(1, dtype=torch.complex64), np.zeros(1),
        np.zeros(1, dtype=object), np.float32(0), torch.float32, torch.device("cpu"), torch.sin, torch.ops.aten.sin,
        torch.ops.aten.cos, [].append, str.upper, int, nn.Linear, nn.Linear(1, 1), nn.Linear(1, 1, bias=False),
        object(),
    ]  # fmt: skip
    hashes = [code_of(value=value).hash for value in values]
    assert len(set(hashes)) == len(values)
    assert hashes == [code_of(value=value).hash for value in values]


def test_what_changed_is_said_in_a_line():
    before = {"a": "1", "b": "1", "c": "1", "d": "1"}
    assert changed(before, before) == ""
    assert changed(before, {**before, "b": "2"}) == "b has changed"
    assert changed(before, {"a": "2", "e": "1"}) == "a has changed, b is gone, c is gone and 2 more"
