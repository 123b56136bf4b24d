"""Repairs of one token in the user's source: where a finding's fix is one, and there is one place for it."""

import ast
import difflib
import io
import re
import sysconfig
import tokenize
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from modelspace.atomic import whole_file
from modelspace.doctor.diagnosis import Diagnosis
from modelspace.doctor.places import built_at, of_torch, shown
from modelspace.doctor.rule import Finding
from modelspace.errors import is_example, is_ours


class _Edit(NamedTuple):
    """Bytes ``start`` to ``end`` of a file, and what comes in their place."""

    start: int
    end: int
    text: bytes


class _Unclear(Exception):
    """The source leaves open what to write where; says why."""


@dataclass
class Repairs:
    """What can be written for a diagnosis, and what can't.

    Attributes:
        fixed: Findings whose fix is one token, which stands in ``after``.
        left: Findings of the same rules whose source is unclear, each with the reason.
        before: Each file's text as it is.
        after: Each file's text as it would be.
    """

    fixed: list[Finding] = field(default_factory=list)
    left: list[tuple[Finding, str]] = field(default_factory=list)
    before: dict[Path, bytes] = field(default_factory=dict)
    after: dict[Path, bytes] = field(default_factory=dict)

    def diff(self) -> str:
        """Return the change as ``git diff`` shows it."""
        lines: list[str] = []
        for path, new in self.after.items():
            old, new = (text.decode().splitlines(keepends=True) for text in (self.before[path], new))
            name = shown(str(path)).lstrip("/")
            lines += difflib.unified_diff(old, new, f"a/{name}", f"b/{name}")
        return "".join(
            line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
        )

    def write(self) -> None:
        """Write the files, each whole or not at all; their permissions stay."""
        _put(self.after)

    def undo(self) -> None:
        """Write the files as they were."""
        _put(self.before)


def _put(files: dict[Path, bytes]) -> None:
    for path, text in files.items():
        mode = path.stat().st_mode
        with whole_file(path) as file:
            file.write_bytes(text)
        path.chmod(mode)


def repairs(found: Diagnosis, module: nn.Module) -> Repairs:
    """Return what can be written into the user's source for a diagnosis; nothing is written yet.

    A fix is applied where it is one token (``view(-1, 225)`` to ``flatten(1)``, a Python list of layers into
    ``nn.ModuleList``, ``batch_first=True``, dropout's ``training=self.training``) and there is one place for it.
    Comments and everything else stay as they are. Whether the finding is gone then, another examination tells.

    Args:
        found: What ``doctor`` returned.
        module: The module that it examined, as built.
    """
    made = Repairs()
    sources: dict[Path, _Source] = {}
    edits: dict[Path, set[_Edit]] = {}
    for finding in found.findings:
        fix = _FIXES.get(finding.rule)
        if fix is None:
            continue
        try:
            made_of = fix(finding, module, sources)
            if made_of is None:
                continue
            file, edit = made_of
            mine = edits.setdefault(file, set())
            if any(edit != other and edit.start < other.end and other.start < edit.end for other in mine):
                raise _Unclear("another fix is at the same place: run it again after that one")
            mine.add(edit)
            made.fixed.append(finding)
        except _Unclear as why:
            made.left.append((finding, str(why)))
    for path, of_file in edits.items():
        text = made.before[path] = sources[path].text
        for edit in sorted(of_file, reverse=True):
            text = text[: edit.start] + edit.text + text[edit.end :]
        ast.parse(text)
        made.after[path] = text
    return made


class _Source:
    """A file's bytes and syntax tree; the tree's columns count bytes."""

    def __init__(self, path: Path):
        self.path, self.text = path, path.read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(self.text).readline)
        if encoding != "utf-8":
            raise _Unclear(f"{shown(str(path))} is written in {encoding}: only UTF-8 is edited")
        self.tree = ast.parse(self.text)
        self.starts = [0, *accumulate(map(len, self.text.splitlines(keepends=True)))]

    def span(self, node: ast.expr) -> tuple[int, int]:
        """Return where a node's bytes begin and end."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        end = self.starts[node.end_lineno - 1] + node.end_col_offset
        return self.starts[node.lineno - 1] + node.col_offset, end

    def calls(self, within: ast.AST, line: int = 0) -> list[ast.Call]:
        """List calls below a node; with a line, those that stand on it."""
        calls = [node for node in ast.walk(within) if isinstance(node, ast.Call)]
        return [node for node in calls if not line or node.lineno <= line <= (node.end_lineno or 0)]

    def methods(self, line: int) -> list[ast.FunctionDef]:
        """List the functions around a line, inmost last."""
        around = [node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef)]
        return [node for node in around if node.lineno <= line <= (node.end_lineno or 0)]

    @cached_property
    def nn(self) -> str:
        """What the file calls ``torch.nn``."""
        names: dict[str, str] = {}
        for node in self.tree.body:
            for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
                full = f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
                names[full] = alias.asname or (alias.name if isinstance(node, ast.ImportFrom) else full)
        if "torch.nn" in names:
            return names["torch.nn"]
        if "torch" in names:
            return f"{names['torch']}.nn"
        raise _Unclear("the file does not import torch.nn")


_Sources = dict[Path, _Source]
_Fixed = tuple[Path, _Edit]


def _source(file: str, sources: _Sources) -> _Source:
    """Return the user's file; others' and ours are not edited."""
    path = Path(file).resolve()
    if not file or not path.is_file():
        raise _Unclear("the line in your source is not known")
    kept = [sysconfig.get_paths()[name] for name in ("purelib", "platlib", "stdlib", "platstdlib")]
    name = str(path)
    if is_ours(name) or is_example(name) or any(path.is_relative_to(folder) for folder in kept):
        raise _Unclear(f"{path.name} belongs to an installed package")
    if path not in sources:
        sources[path] = _Source(path)
    return sources[path]


def _only(found: Sequence[Any], what: str) -> Any:
    if len(found) != 1:
        raise _Unclear(f"{'no' if not found else f'{len(found)} places for'} {what}")
    return found[0]


def _name(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _flatten(finding: Finding, module: nn.Module, sources: _Sources) -> _Fixed:
    """``x.view(-1, 225)`` to ``x.flatten(1)``."""
    if finding.severity != "warning":
        raise _Unclear("the rows are wrong at the declared size already, so it is open what was meant")
    source = _source(finding.file, sources)
    call = _only(
        [c for c in source.calls(source.tree, finding.line) if _name(c) in ("view", "reshape") and _rows(c)],
        "view(-1, k) on this line",
    )
    start, end = source.span(call.func)[1] - len(call.func.attr), source.span(call)[1]
    if b"#" in source.text[start:end]:
        raise _Unclear("a comment stands within the call")
    return source.path, _Edit(start, end, b"flatten(1)")


def _rows(call: ast.Call) -> bool:
    """Tell whether a method is called with -1 and one size."""
    plain = len(call.args) == 2 and not call.keywords and not isinstance(call.args[1], ast.Starred)
    return isinstance(call.func, ast.Attribute) and plain and ast.unparse(call.args[0]) == "-1"


_CONTAINERS = {dict: ("ModuleDict", "ParameterDict"), list: ("ModuleList", "ParameterList")}
_DISPLAYS = (ast.List, ast.ListComp, ast.Tuple, ast.Dict, ast.DictComp)


def _container(finding: Finding, module: nn.Module, sources: _Sources) -> _Fixed:
    """``self.layers = […]`` to ``self.layers = nn.ModuleList([…])``."""
    kept = re.search(r"kept in ([\w.]+), take part", finding.evidence)
    if kept is None:
        raise _Unclear("they are kept in no attribute")
    owner, _, name = kept[1].rpartition(".")
    value = getattr(module.get_submodule(owner), name)
    parts = [*value.values()] if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    kinds = [all(isinstance(part, kind) for part in parts) for kind in (nn.Module, nn.Parameter)]
    if not parts or not any(kinds):
        raise _Unclear(f"{kept[1]} is no list, tuple or dict of layers alone, or of parameters alone")
    source, assigned = _assignment(module, kept[1], sources)
    start, end = source.span(assigned)
    text = source.text[start:end]
    if not isinstance(assigned, _DISPLAYS) or (isinstance(assigned, ast.Tuple) and text[:1] != b"("):
        raise _Unclear(f"self.{name} is assigned no list, tuple or dict that is written out there")
    container = _CONTAINERS[dict if isinstance(value, dict) else list][kinds.index(True)]
    return source.path, _Edit(start, end, b"%s.%s(%s)" % (source.nn.encode(), container.encode(), text))


def _assignment(module: nn.Module, path: str, sources: _Sources) -> tuple[_Source, ast.expr]:
    """Find the one ``self.NAME = …`` that makes an attribute, and return its right side."""
    file, line = _only(built_at(module, path), f"an assignment of self.{path.rpartition('.')[2]}")
    source = _source(file, sources)
    found = [
        n for n in ast.walk(source.tree) if isinstance(n, ast.Assign | ast.AnnAssign) and n.lineno == line
    ]
    value = _only([n.value for n in found if n.value is not None], f"an assignment on line {line}")
    return source, value


def _batch_first(finding: Finding, module: nn.Module, sources: _Sources) -> _Fixed:
    """``nn.LSTM(8, 16)`` to ``nn.LSTM(8, 16, batch_first=True)``."""
    wanted = re.search(r"batch_first=(True|False)\)", finding.fix)
    if wanted is None:
        raise _Unclear("the inputs have no dimension of time, and it is open where it was meant to be")
    path = finding.where.partition(" (")[0]
    layer = module.get_submodule(path)
    if path == finding.where or not of_torch(type(layer)):
        raise _Unclear("the model itself is that layer")
    source, assigned = _assignment(module, path, sources)
    kind = type(layer).__name__
    calls = [c for c in source.calls(assigned) if _name(c) == kind]
    if not calls:  # made on a line before
        calls = [c for c in source.calls(source.methods(assigned.lineno)[-1]) if _name(c) == kind]
    call = _only(calls, f"{kind}(…)")
    return source.path, _keyword(source, call, "batch_first", wanted[1])


def _training(finding: Finding, module: nn.Module, sources: _Sources) -> _Fixed | None:
    """``F.dropout(x)`` to ``F.dropout(x, training=self.training)``."""
    if "training argument is True" not in finding.evidence:
        return None  # what the modes differ by otherwise is no matter of a token
    source = _source(finding.file, sources)
    call = _only(
        [c for c in source.calls(source.tree, finding.line) if "dropout" in _name(c)],
        "dropout(…) on this line",
    )
    methods = source.methods(finding.line)
    first = methods[-1].args.args[:1] if methods else []
    if len(call.args) > 2 or not first or first[0].arg != "self":
        raise _Unclear("the call is not dropout(x, p) in a method")
    return source.path, _keyword(source, call, "training", "self.training")


def _keyword(source: _Source, call: ast.Call, name: str, value: str) -> _Edit:
    """Give a call a keyword argument, or another value for it where it is a constant."""
    if any(k.arg is None for k in call.keywords) or any(isinstance(a, ast.Starred) for a in call.args):
        raise _Unclear("the call passes on * or ** arguments, which may have it")
    for keyword in call.keywords:
        if keyword.arg == name:
            if not isinstance(keyword.value, ast.Constant):
                raise _Unclear(f"{name} is given as {ast.unparse(keyword.value)}")
            return _Edit(*source.span(keyword.value), value.encode())
    start, end = source.span(call)
    text = source.text[start:end]
    # The last token before the closing bracket that is no comment: arguments may have brackets of their own.
    lines = text.splitlines(keepends=True)
    blank = (
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.COMMENT,
        tokenize.ENDMARKER,
        tokenize.INDENT,
        tokenize.DEDENT,
    )
    tokens = [t for t in tokenize.tokenize(io.BytesIO(text).readline) if t.type not in blank]
    last = tokens[-2]
    row, column = last.end
    at = start + sum(map(len, lines[: row - 1])) + len(lines[row - 1].decode()[:column].encode())
    given = f"{name}={value}"
    written = {",": f" {given},", "(": given}.get(last.string, f", {given}")
    return _Edit(at, at, written.encode())


_FIXES: dict[str, Callable[[Finding, nn.Module, _Sources], _Fixed | None]] = {
    "batch-reshape": _flatten,
    "unregistered-layers": _container,
    "batch-first": _batch_first,
    "train-eval-gap": _training,
}
