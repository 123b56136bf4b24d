"""``modelspace inspect`` and ``modelspace diff``: what an architecture is, and how two of them differ."""

import argparse
import sys
from typing import Any

import torch

from modelspace.cli import values
from modelspace.cli.arguments import (
    add_data,
    add_json,
    add_target,
    built_with,
    checked_batch,
    keep_free,
    load_data,
    sample_shape,
)
from modelspace.cli.parser import Verb, add_options, chosen, typed
from modelspace.cli.results import print_json
from modelspace.cost import COLUMNS, DEFAULT_COLUMNS, Inspection, Spec, checked_columns, diff, inspect
from modelspace.data import Data
from modelspace.errors import ModelspaceError
from modelspace.loading import load_architecture
from modelspace.plain import plain
from modelspace.show import Terminal, say

_INSPECT = "%(prog)s TARGET [--input SHAPE] [options]"
_INSPECT_DESCRIPTION = """\
Measure an architecture before anything is trained, as a tree of the modules that it calls. Nothing is allocated:
the module is built on PyTorch's meta device and traced by shapes alone, forward and backward. Equal blocks in a row
are one line; the numbers of a line include what is below it. FLOP are those of matrix products, convolutions,
attention and recurrences (a multiply-and-add is two; a MAC is FLOP / 2); what has no formula is listed as not
counted.

Without --input the shape is guessed from the first layers, and said to be."""
_INSPECT_EPILOG = f"""\
columns: {" ".join(COLUMNS)}

examples:
  modelspace inspect modelspace.examples:DummyNet --input 3x7x7
  modelspace inspect torchvision:resnet18 --batch-size 32 --columns parameters,flops,memory --optimizer adam
  modelspace inspect timm:vit_tiny_patch16_224 --sort flops --html vit.html
  modelspace inspect hf:gpt2/config.json --memory 24GiB --precision bf16-mixed --hardware a100"""
_STEP = "optimizer precision memory hardware"


def _configure_inspect(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    _add_sample(parser)
    shown = ",".join(DEFAULT_COLUMNS)
    parser.add_argument(
        "--columns", default=shown, metavar="NAME[,NAME…]", help=f"what is shown of each layer ({shown})"
    )
    parser.add_argument("--depth", type=int, default=3, metavar="N", help="levels of the tree (3)")
    parser.add_argument(
        "--sort", metavar="NAME", help="no tree: every layer by itself, the most of this column first"
    )
    memory = {"type": typed(values.memory_size, "memory"), "metavar": "24GiB"}
    memory["help"] = "find the largest batch whose training step stays within this memory"
    named = {name: {"type": str, "metavar": "NAME"} for name in ("precision", "hardware")}
    add_options(parser, inspect, _STEP, memory=memory, **named)
    parser.add_argument(
        "--html", metavar="FILE", help="write a page with treemaps, in one file that needs no network"
    )
    add_json(parser)


def _add_sample(parser: argparse.ArgumentParser) -> None:
    """What cost and shapes are for, beside --input."""
    add_data(parser, required=False)
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="samples that the cost is for (1, or 2 with BatchNorm)"
    )
    parser.add_argument(
        "--tokens",
        type=int,
        metavar="N",
        help="the samples are integers below N, drawn where the forward reads values (default there: ones)",
    )
    parser.add_argument(
        "--input-dtype",
        choices=["float", "long"],
        help="the samples' type: long for integers, as an embedding takes them (default: what runs)",
    )


def _inspect(options: argparse.Namespace) -> int:
    columns = checked_columns(options.columns.split(","))
    if options.sort is not None:
        checked_columns([options.sort])
    if options.depth < 0:
        raise ModelspaceError(f"--depth is 0 or more levels; received {options.depth}")
    step = chosen(options, _STEP)
    if "memory" in (*columns, options.sort) or options.html:
        step["optimizer"] = step["optimizer"] or "adam"
    found = inspect(load_architecture(options.target), **step, **_measured(options))
    if options.html:
        from modelspace.report import write_page

        write_page(found, options.html)
    if options.json:
        print_json(_summary(found))
    else:
        wide = sys.stdout.isatty()
        console = Terminal(width=None if wide else 200, soft_wrap=not wide)
        found.write(console, columns, options.depth, options.sort)
    return 0


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of ``inspect`` that --input, --data, --batch-size and their like stand for.

    Raises:
        ModelspaceError: one is out of range, or an argument of the architecture has a name of ours.
    """
    batch_size = checked_batch(options)
    keep_free(options, "input_shape", "batch_size", "dtype", "input_dtype", *_STEP.split())
    kind = {"float": torch.float32, "long": torch.long, None: None}[options.input_dtype]
    return {
        "input_shape": _samples(options, load_data(options)),
        "batch_size": batch_size,
        "dtype": getattr(torch, options.dtype) if options.dtype else None,
        "input_dtype": kind,
        **built_with(options),
    }


def _samples(options: argparse.Namespace, data: Data | None) -> Any:
    """The data's samples, integers to be drawn, or a shape."""
    shape = sample_shape(options, data)
    if options.tokens is None:
        return shape if data is None else data.train.inputs
    if options.tokens < 1:
        raise ModelspaceError(f"--tokens must be at least 1; received {options.tokens}")
    if data is not None:
        raise ModelspaceError("--tokens draws integers, and --data has samples of its own: give one of them")
    if shape is None:
        raise ModelspaceError("--tokens needs the length of a sample too: --input N")
    return Spec(shape, torch.float32 if options.input_dtype == "float" else torch.long, options.tokens)


def _summary(found: Inspection) -> dict[str, Any]:
    """The inspection as plain values."""
    record, counts = found.anatomy, plain(found.counts, "parameters")
    summary: dict[str, Any] = {
        "architecture": found.title,
        "dimension": found.dimension,
        **{n: counts[n] for n in ("parameters", "trainable", "frozen", "tied", "buffers", "by_kind")},
        "input_guessed": found.sample.guessed,
        "layers": record.layers,
        "flops": {n: getattr(record, f"{n}_flops") for n in ("forward", "backward", "recomputed")},
        **{n: getattr(record, n) for n in ("input_shape", "batch_size", "peak_bytes", "saved_bytes")},
        "uncounted": list(record.uncounted),
        "uncounted_calls": record.uncounted,
        "may_hide_products": record.unknown,
        "unknown_workspaces": record.workspaces,
        "device": record.device,
        "computed": record.computed,
        "highlights": found.highlights(),
    }
    if found.memory is not None:
        modules = found.memory.by_module
        summary["step"] = {
            **plain(found.memory),
            "optimizer": found.optimizer,
            "precision": found.precision,
            "by_module": {name: held for name, held in modules.items() if name is not None},
            "by_no_module": modules.get(None, 0),
        }
    if found.largest is not None:
        summary["largest_batch"] = found.largest
    if found.bound is not None:
        summary["time_bound"] = found.bound
    return summary


_DIFF = "%(prog)s TARGET TARGET [--input SHAPE] [options]"
_DIFF_DESCRIPTION = """\
Put two architectures side by side: which modules were added, removed, renamed or changed, and what parameters,
shapes, FLOP and memory become. Modules are aligned by their names, the others by class, arguments and tensors.
Nothing is allocated, and no values are compared: for two points of one space see compare."""
_DIFF_EPILOG = """\
examples:
  modelspace diff old.py:Net new.py:Net --input 3x32x32
  modelspace diff torchvision:resnet18 torchvision:resnet34
  modelspace diff nets.py:MLP nets.py:MLP --model.width 32,64 --json

exit status: 0 if they are equal, 1 if they differ, 2 for a mistake in what was given"""


def _configure_diff(parser: argparse.ArgumentParser) -> None:
    for name in ("first", "second"):
        parser.add_argument(
            name,
            metavar="TARGET",
            help=f"the {name} architecture, as inspect takes it. Arguments of both: --model.KEY VALUE; of each its "
            "own: --model.KEY VALUE,VALUE",
        )
    parser.add_argument(
        "--input",
        type=typed(values.shape, "shape"),
        metavar="3x7x7",
        help="one sample's shape without the batch, for both (default: guessed for each)",
    )
    _add_sample(parser)
    # What inspect casts to is left out: a cast would hide a difference.
    parser.set_defaults(dtype=None, target=None)
    add_json(parser)


def _diff(options: argparse.Namespace) -> int:
    first, second = (_own_arguments(options.model, side) for side in (0, 1))
    options.model = {}
    common = _measured(options)
    del common["dtype"]
    targets = [load_architecture(target) for target in (options.first, options.second)]
    found = diff(*targets, arguments=(first, second), **common)
    if options.json:
        ties = [{"name": alias, "of": name, "only_in": side} for alias, name, side in found.ties]
        print_json(found, "equal", architectures=found.titles, ties=ties)
    else:
        say(repr(found))
    return 0 if found.equal else 1


def _own_arguments(model: dict[str, Any], side: int) -> dict[str, Any]:
    """One side's arguments: of two values with a comma between them its own."""
    found = {}
    for name, value in model.items():
        both = value
        if isinstance(value, str) and "," in value:
            both = tuple(values.argument(part) for part in value.split(","))
        if isinstance(both, tuple) and len(both) != 2:
            raise ModelspaceError(
                f"--model.{name} {value}: give one value, or two with a comma between them, one for each side"
            )
        found[name] = both[side] if isinstance(both, tuple) else both
    return found


VERBS = {
    "inspect": Verb(_INSPECT, _INSPECT_DESCRIPTION, _INSPECT_EPILOG, _configure_inspect, _inspect),
    "diff": Verb(_DIFF, _DIFF_DESCRIPTION, _DIFF_EPILOG, _configure_diff, _diff),
}
