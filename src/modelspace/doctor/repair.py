"""Repairs of one token in the user's source: where a finding's fix is one, and there is one place for it."""

import ast
import io
import re
import sysconfig
import tokenize
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from modelspace.atomic import whole_file
from modelspace.doctor.diagnosis import Diagnosis
from modelspace.doctor.places import built_at, of_torch
from modelspace.doctor.rule import Finding
from modelspace.errors import is_example, is_ours


class Repairs(NamedTuple):
    """What can be written for a diagnosis, and what can't.

    Attributes:
        fixed: Findings whose fix is one token, which stands in ``after``.
        left: Findings of the same rules whose source is unclear, each with the reason.
        before: Each file's text as it is.
        after: Each file's text as it would be.
    """

    fixed: list[Finding]
    left: list[tuple[Finding, str]]
    before: dict[Path, bytes]
    after: dict[Path, bytes]


def repairs(found: Diagnosis, module: nn.Module) -> Repairs:
    """Return what can be written into the user's source for a diagnosis; nothing is written yet.

    A fix is applied where it is one token (``view(-1, 225)`` to ``flatten(1)``, a Python list of layers into
    ``nn.ModuleList``, ``batch_first=True``) and there is one place for it. Comments and everything else stay as they
    are. Whether the finding is gone then, another examination tells.

    Args:
        found: What ``doctor`` returned.
        module: The module that it examined, as built.
    """
    made, edits = Repairs([], [], {}, {}), dict[_Source, set[_Edit]]()
    sources: dict[Path, _Source] = {}
    for finding in found.findings:
        if finding.rule in _FIXES:
            try:
                source, edit = _FIXES[finding.rule](finding, module, sources)
            except _Unclear as why:
                made.left.append((finding, str(why)))
            else:
                edits.setdefault(source, set()).add(edit)
                made.fixed.append(finding)
    for source, of_file in edits.items():
        text = made.before[source.path] = source.text
        for start, end, new in sorted(of_file, reverse=True):
            text = text[:start] + new + text[end:]
        ast.parse(text)
        made.after[source.path] = text
    return made


def write_whole(files: Mapping[Path, bytes]) -> None:
    """Write files, each whole or not at all; their permissions stay."""
    for path, text in files.items():
        mode = path.stat().st_mode
        with whole_file(path) as file:
            file.write_bytes(text)
        path.chmod(mode)


class _Unclear(Exception):
    """The source leaves open what to write where; says why."""


_Edit = tuple[int, int, bytes]  # from which byte of a file to which, and what comes in their place


class _Source:
    """A file's bytes and syntax tree; the tree's columns count bytes."""

    def __init__(self, path: Path):
        self.path, self.text = path, path.read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(self.text).readline)
        if encoding != "utf-8":
            raise _Unclear(f"{path.name} is written in {encoding}: only UTF-8 is edited")
        self.tree = ast.parse(self.text)
        self.starts = [0, *accumulate(map(len, self.text.splitlines(keepends=True)))]

    def span(self, node: Any) -> tuple[int, int]:
        """Return where an expression's bytes begin and end."""
        start, end = ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))
        return self.starts[start[0] - 1] + start[1], self.starts[end[0] - 1] + end[1]

    def around(self, line: int, *kinds: type[ast.AST]) -> list[Any]:
        """List the nodes of some kinds that a line is part of, inmost last."""
        nodes: list[Any] = [node for node in ast.walk(self.tree) if isinstance(node, kinds)]
        return [node for node in nodes if node.lineno <= line <= node.end_lineno]

    def nn(self) -> str:
        """Return what the file calls ``torch.nn``."""
        names: dict[str, str] = {}
        for node in self.tree.body:
            for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
                full = f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
                names[full] = alias.asname or (alias.name if isinstance(node, ast.ImportFrom) else full)
        if not {"torch", "torch.nn"} & set(names):
            raise _Unclear("the file does not import torch.nn")
        return names.get("torch.nn") or f"{names['torch']}.nn"


_Sources = dict[Path, _Source]


def _source(file: str, sources: _Sources) -> _Source:
    """Return the user's file; others' and ours are not edited."""
    path = Path(file).resolve()
    if not file or not path.is_file():
        raise _Unclear("the line in your source is not known")
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("purelib", "platlib", "stdlib", "platstdlib")]
    if is_ours(str(path)) or is_example(str(path)) or any(map(path.is_relative_to, folders)):
        raise _Unclear(f"{path.name} belongs to an installed package")
    return sources.get(path) or sources.setdefault(path, _Source(path))


def _only(found: Sequence[Any], what: str) -> Any:
    if len(found) != 1:
        raise _Unclear(f"{f'{len(found)} places for' if found else 'no'} {what}")
    return found[0]


def _name(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _flatten(finding: Finding, module: nn.Module, sources: _Sources) -> tuple[_Source, _Edit]:
    """``x.view(-1, 225)`` to ``x.flatten(1)``."""
    if finding.severity != "warning":
        raise _Unclear("the rows are wrong at the declared size already, so it is open what was meant")
    source = _source(finding.file, sources)
    calls = [call for call in source.around(finding.line, ast.Call) if _name(call) in ("view", "reshape")]
    call = _only([call for call in calls if _makes_rows(call)], "view(-1, k) on this line")
    start, end = source.span(call.func)[1] - len(_name(call)), source.span(call)[1]
    if b"#" in source.text[start:end]:
        raise _Unclear("a comment stands within the call")
    return source, (start, end, b"flatten(1)")


def _makes_rows(call: ast.Call) -> bool:
    """Tell whether a method is called with -1 and one size."""
    plain = len(call.args) == 2 and not call.keywords and not isinstance(call.args[1], ast.Starred)
    return isinstance(call.func, ast.Attribute) and plain and ast.unparse(call.args[0]) == "-1"


_CONTAINERS = {dict: ("ModuleDict", "ParameterDict"), list: ("ModuleList", "ParameterList")}
_DISPLAYS = (ast.List, ast.ListComp, ast.Tuple, ast.Dict, ast.DictComp)


def _container(finding: Finding, module: nn.Module, sources: _Sources) -> tuple[_Source, _Edit]:
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
    return source, (start, end, f"{source.nn()}.{container}(".encode() + text + b")")


def _assignment(module: nn.Module, path: str, sources: _Sources) -> tuple[_Source, ast.expr]:
    """Find the one ``self.NAME = …`` that makes an attribute, and return its right side."""
    file, line = _only(built_at(module, path), f"an assignment of self.{path.rpartition('.')[2]}")
    source = _source(file, sources)
    found = [node.value for node in source.around(line, ast.Assign, ast.AnnAssign) if node.value is not None]
    return source, _only(found, f"an assignment on line {line}")


def _batch_first(finding: Finding, module: nn.Module, sources: _Sources) -> tuple[_Source, _Edit]:
    """``nn.LSTM(8, 16)`` to ``nn.LSTM(8, 16, batch_first=True)``."""
    wanted = re.search(r"batch_first=(True|False)\)", finding.fix)
    if wanted is None:
        raise _Unclear("the inputs have no dimension of time, and it is open where it was meant to be")
    path = finding.where.partition(" (")[0]
    layer = module.get_submodule(path) if path != finding.where else module
    if layer is module or not of_torch(type(layer)):
        raise _Unclear("the model itself is that layer")
    source, assigned = _assignment(module, path, sources)
    kind = type(layer).__name__
    # Where the attribute is assigned; else on a line before, in the same method.
    for within in (assigned, source.around(assigned.lineno, ast.FunctionDef)[-1]):
        calls = [node for node in ast.walk(within) if isinstance(node, ast.Call) and _name(node) == kind]
        if calls:
            break
    return source, _keyword(source, _only(calls, f"{kind}(…)"), "batch_first", wanted[1])


def _keyword(source: _Source, call: ast.Call, name: str, value: str) -> _Edit:
    """Give a call a keyword argument, or another value for it where it is a constant."""
    if any(k.arg is None for k in call.keywords) or any(isinstance(a, ast.Starred) for a in call.args):
        raise _Unclear("the call passes on * or ** arguments, which may have it")
    for given in [k.value for k in call.keywords if k.arg == name]:
        if not isinstance(given, ast.Constant):
            raise _Unclear(f"{name} is given as {ast.unparse(given)}")
        return *source.span(given), value.encode()
    start, end = source.span(call)
    lines = source.text[start:end].splitlines(keepends=True)
    # The last token before the closing bracket that is no comment: arguments may have brackets of their own.
    blank = (tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.ENDMARKER)
    tokens = tokenize.tokenize(io.BytesIO(b"".join(lines)).readline)
    last = [token for token in tokens if token.type not in blank][-2]
    row, column = last.end
    at = start + sum(map(len, lines[: row - 1])) + len(lines[row - 1].decode()[:column].encode())
    written = {",": f" {name}={value},", "(": f"{name}={value}"}.get(last.string, f", {name}={value}")
    return at, at, written.encode()


_FIXES = {"batch-reshape": _flatten, "unregistered-layers": _container, "batch-first": _batch_first}
