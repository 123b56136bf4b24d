"""Counters of parameters and FLOP against counts by hand: ``python -m benchmarks.anatomy``.

Twelve small architectures (``tests/cost/twelve.py``), each asked of every counter that is installed. A cell
says what the counter found relative to the count by hand. It ends with status 1 if ours is not equal to the hand
count everywhere.
"""

import argparse
import contextlib
import io
import json
import sys
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
from cost.twelve import Subject, subjects
from rich.table import Table
from support.zoo import without_torchvision_s_library
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import RESULTS, environment, file_name, versions
from benchmarks.tables import draw, table
from modelspace.cost import anatomy

# ptflops and calflops import torchvision, whose wheels fail beside a CPU build of torch.
_LIBRARY = without_torchvision_s_library()
_WITHIN = 0.02
_KEYS = ("parameters", "flops")

Count = tuple[int | None, int]  # parameters and FLOP of one forward


def ours(net: nn.Module, x: torch.Tensor) -> Count:
    record = anatomy(net, inputs=x, backward=False)
    return record.counts.parameters, record.forward_flops


def flop_counter_mode(net: nn.Module, x: torch.Tensor) -> Count:
    with FlopCounterMode(display=False) as mode, torch.no_grad():
        net(x)
    return None, mode.get_total_flops()  # it counts no parameters


def torchinfo(net: nn.Module, x: torch.Tensor) -> Count:
    found = resolve_name("torchinfo:summary")(net, input_data=x, verbose=0)
    return found.total_params, 2 * int(found.total_mult_adds)


def fvcore(net: nn.Module, x: torch.Tensor) -> Count:
    package = resolve_name("fvcore.nn")
    count = package.FlopCountAnalysis(net, x)
    count.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return package.parameter_count(net)[""], 2 * int(count.total())


def ptflops(net: nn.Module, x: torch.Tensor) -> Count:
    how = {"as_strings": False, "print_per_layer_stat": False, "verbose": False}
    how |= {"input_constructor": lambda shape: x}  # and the default of two backends
    macs, parameters = resolve_name("ptflops:get_model_complexity_info")(net, tuple(x.shape[1:]), **how)
    return int(parameters), 2 * int(macs)


def thop(net: nn.Module, x: torch.Tensor) -> Count:
    macs, parameters = resolve_name("thop:profile")(net, inputs=(x,), verbose=False)
    return int(parameters), 2 * int(macs)


def calflops(net: nn.Module, x: torch.Tensor) -> Count:
    quiet = {"print_results": False, "print_detailed": False, "output_as_string": False}
    # Its FLOP hold elementwise arithmetic too.
    _, macs, parameters = resolve_name("calflops:calculate_flops")(net, args=[x], **quiet)
    return int(parameters), 2 * int(macs)


# A counter bears its package's name; what counts MAC is doubled.
_OTHERS = (torchinfo, fvcore, ptflops, thop, calflops)
COUNTERS = {"modelspace": (ours, "modelspace"), "FlopCounterMode": (flop_counter_mode, "torch")}
COUNTERS |= {counter.__name__: (counter, counter.__name__) for counter in _OTHERS}


def counted(name: str, subject: Subject) -> dict[str, int | None] | str:
    """What a counter finds, on a module of its own: some leave hooks and buffers behind.

    As text, that it is not installed, or how it failed.
    """
    count, package = COUNTERS[name]
    if find_spec(package) is None:
        return "not installed"
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return dict(zip(_KEYS, count(subject.make().eval(), subject.sample()), strict=True))
    except Exception as error:
        return f"fails: {type(error).__name__}"


def shown(title: str, found: dict[str, Any], key: str) -> list[Table]:
    """Deviations of parameters or FLOP, a row an architecture; then how many are exact, or near."""
    rows, off = [], {name: [] for name in COUNTERS}
    for architecture, counts in found.items():
        true, cells = counts["by_hand"][key], {}
        for i, name in enumerate(COUNTERS):
            value = counts[name] if isinstance(counts[name], str) else counts[name][key]
            if isinstance(value, int):
                off[name].append(value / true - 1)
                value = "exact" if value == true else f"{100 * (value / true - 1):+.1f} %"
            cells[f"c{i}"] = value or "–"
        rows.append({"name": architecture, "true": f"{true:,}", **cells})
    for name, within in (("exact", 0.0), (f"within {_WITHIN:.0%}", _WITHIN)):
        near = {f"c{i}": sum(abs(x) <= within for x in own) for i, own in enumerate(off.values())}
        rows.append({"name": name, "true": "", **near})
    columns = "".join(f" | {name}: {{c{i}}}" for i, name in enumerate(COUNTERS))
    return table(title, f"architecture: {{name}} | by hand: {{true}}{columns}", rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both tables and write the result file; the exit status."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("--out", type=Path, help="the result file (default: in benchmarks/results, by date)")
    options, found = parser.parse_args(arguments), {}
    for s in subjects():
        by_hand = {"parameters": s.parameters, "flops": s.flops}
        found[s.name] = {"by_hand": by_hand, **{name: counted(name, s) for name in COUNTERS}}
    flop = shown("FLOP of one forward, deviation from the count by hand", found, "flops")
    draw("", [*flop, *shown("parameters", found, "parameters")], width=220)
    packages = {name: versions(package)[package] for name, (_, package) in COUNTERS.items()}
    where = {**environment(), "packages": packages}
    unit = "FLOP; a multiply-and-add is two; MAC of the counters are doubled"
    made = {"environment": where, "unit": unit, "architectures": found}
    path = options.out or RESULTS / file_name(where).replace(".json", "-anatomy.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"written to {path}\n")
    wrong = [name for name, counts in found.items() if counts["modelspace"] != counts["by_hand"]]
    if wrong:
        sys.stdout.write(f"ours differ from the count by hand: {', '.join(wrong)}\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
