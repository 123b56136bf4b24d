"""The doctor beside torch-preflight, torch-audit and torchtest2, on the same models: faults and corrected twins.

A fault is *found* by a tool that reports something on the faulty side which it doesn't report on the twin; whether it
names the mistake isn't asked of anyone. A *false alarm* is a twin on which a tool reports anything; precision is the
share of the faults found among both. What counts as a report is what each tool itself means to be acted on:
modelspace's errors and warnings, torch-preflight's errors and warnings, torch-audit's above INFO (its hardware rules
TA2xx, which are about speed, left out), torchtest2's FAIL and WARN. Faults that are worth a note alone, by our own
rules, are left out. A model that can't be trained at all counts as found by who trains it.

torch-preflight reads source: it is given a script of the model's classes with a sound training loop, seeded. The
others are given the module, a batch of 8, and a rate of Adam's by which every twin learns (or the fault's optimizer).
"""

import ast
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from doctor import zoo
from doctor.ailments.fault import examine
from doctor.ailments.side import corrected, faulty
from torch.nn import functional as F

from benchmarks.tables import each
from modelspace.doctor import RULES

_BATCH, _RATE = 8, 0.02
_NOTES = {rule.name for rule in RULES if rule.severity == "info"}
_LOOP = """
torch.manual_seed(0)
samples = torch.utils.data.TensorDataset(torch.randn(64, {shape}), torch.zeros(64, dtype=torch.long))
loader = torch.utils.data.DataLoader(samples, batch_size=16, shuffle=True)
model = ({model})()
loss_function = {loss}
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(3):
    model.train()
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = loss_function(model(inputs), labels)
        loss.backward()
        optimizer.step()
"""


def measured(faults: Sequence[Any]) -> list[dict[str, Any]]:
    """One record for each tool: found of how many, false alarms, recall, precision, seconds; or not installed."""
    faults = [fault for fault in faults if fault.rule not in _NOTES]
    records = []
    for name, tool in TOOLS.items():
        start = sum(os.times()[:4])
        try:
            reports = [*each(f"{name}: {len(faults)} faults and their twins", [*tool(faults)], "models")]
        except ImportError:
            records.append({"tool": name, "missing": "not installed"})
            continue
        seconds = (
            sum(os.times()[:4]) - start
        )  # of processors, with a child's: a busy machine changes it little
        found, alarms = (
            sum(map(bool, side)) for side in ((s - w for s, w in reports), (w for _, w in reports))
        )
        rates = {"recall": found / len(faults), "precision": found / max(found + alarms, 1)}
        counts = {"tool": name, "faults": len(faults), "found": found, "alarms": alarms}
        records.append({**counts, **rates, "seconds": seconds / (2 * len(faults))})
    return records


Reports = Iterator[tuple[set[str], set[str]]]


def _ours(faults: Sequence[Any]) -> Reports:
    for fault in faults:
        sides = (examine(fault, faulty=sick).findings for sick in (True, False))
        sick, well = ({f.rule for f in findings if f.severity != "info"} for findings in sides)
        yield sick, well


def _trained(run: Callable[..., set[str]], faults: Sequence[Any]) -> Reports:
    """Give a tool what it runs; what raises is a report too."""
    for fault in faults:
        reports = []
        for side in (faulty(fault), corrected(fault)):
            try:
                model = side.model()
                made = side.optimizer(model) if side.optimizer is not None else None
                parameters = [p for p in model.parameters() if p.requires_grad]
                optimizer = (
                    made[0] if isinstance(made, list) else made or torch.optim.Adam(parameters, lr=_RATE)
                )
                reports.append(run(model, side, *side.batch(_BATCH), optimizer))
            except Exception as error:
                reports.append({f"raises {type(error).__name__}"})
        yield reports[0], reports[1]


def _audit(faults: Sequence[Any]) -> Reports:
    from torch_audit.core import Severity
    from torch_audit.runtime import Auditor

    def run(model: Any, side: Any, inputs: Any, labels: Any, optimizer: Any) -> set[str]:
        with Auditor(model, optimizer=optimizer) as auditor:
            auditor.audit_static()
            auditor.audit_init()
            auditor.backward(side.value(auditor.forward(inputs), labels))
            auditor.optimizer_step()
        findings = [f for f in auditor.finish().findings if f.severity != Severity.INFO]
        return {f.rule_id for f in findings if not f.rule_id.startswith("TA2")}

    return _trained(run, faults)


def _torchtest2(faults: Sequence[Any]) -> Reports:
    import torchtest2

    def run(model: Any, side: Any, inputs: Any, labels: Any, optimizer: Any) -> set[str]:
        report = torchtest2.check_model(model, inputs, labels, loss_fn=side.value, optimizer=optimizer)
        return {result.name for result in (*report.failures, *report.warnings)}

    return _trained(run, faults)


def _preflight(faults: Sequence[Any]) -> Reports:
    import_module("torch_preflight")
    with tempfile.TemporaryDirectory() as folder:
        for i, fault in enumerate(faults):
            for side in (True, False):
                Path(folder, f"{i}_{side}.py").write_text(script(fault, faulty=side), encoding="utf-8")
        command = [sys.executable, "-m", "torch_preflight", "check", folder, "--format", "json", "-j", "1"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    found: dict[str, set[str]] = defaultdict(set)
    for one in json.loads(done.stdout)["diagnostics"]:
        if one["severity"] != "note":
            found[Path(one["path"]).stem].add(one["code"])
    yield from ((found[f"{i}_True"], found[f"{i}_False"]) for i in range(len(faults)))


TOOLS = {"modelspace": _ours, "torch-preflight": _preflight, "torch-audit": _audit, "torchtest2": _torchtest2}


@cache
def _modules() -> list[tuple[Any, ast.Module]]:
    modules = (sys.modules[f"doctor.ailments.{family}"] for family in zoo._FAMILIES)
    return [(module, ast.parse(Path(module.__file__).read_text("utf-8"))) for module in modules]


def script(fault: Any, *, faulty: bool) -> str:
    """Write one side of a fault as a file: imports, the classes and functions that it needs, a training loop."""
    tree, given = next(
        (tree, node)
        for module, tree in _modules()
        if fault in module.FAULTS
        for node in [*_named(tree, fault.name), None]
    )
    imports = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    kept = [text for text in map(ast.unparse, imports) if "doctor" not in text and "modelspace" not in text]
    parts: list[ast.stmt] = [
        n for n in tree.body if not isinstance(n, ast.Import | ast.ImportFrom | ast.Expr)
    ]
    model = getattr(fault.faulty if faulty else fault.corrected, "__name__", "model")
    if given is not None:
        expression = given.args[1 if faulty else 2]
        model, parts = ast.unparse(expression), _needed(expression, parts)
    loss = fault.loss if faulty or fault.corrected_loss is None else fault.corrected_loss
    called = f"torch.nn.{type(loss).__name__}()"
    if isinstance(loss, str):
        called = f"torch.nn.functional.{loss}" if hasattr(F, loss) else "torch.nn.SoftMarginLoss()"
    loop = _LOOP.format(shape=", ".join(map(str, fault.shape)), model=model, loss=called)
    return "\n".join(["import torch", *kept, *map(ast.unparse, parts), loop])


def _named(tree: ast.Module, name: str) -> list[ast.Call]:
    """Find the call that makes the fault of this name."""
    calls = (n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "Fault")
    return [call for call in calls if call.args and getattr(call.args[0], "value", None) == name]


def _needed(expression: ast.expr, parts: list[ast.stmt]) -> list[ast.stmt]:
    """List the definitions that an expression uses, and those that they use, in the file's order."""
    wanted: list[ast.AST] = [expression]
    chosen: list[ast.stmt] = []
    while wanted:
        used = {n.id for n in ast.walk(wanted.pop()) if isinstance(n, ast.Name)}
        for part in parts:
            targets = [n for t in part.targets for n in ast.walk(t)] if isinstance(part, ast.Assign) else []
            names = {getattr(part, "name", None), *(n.id for n in targets if isinstance(n, ast.Name))}
            if part not in chosen and names & used and "FAULTS" not in names:
                chosen.append(part)
                wanted.append(part)
    return [part for part in parts if part in chosen]
