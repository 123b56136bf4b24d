"""``modelspace inspect``: what an architecture is, before anything is trained."""

import argparse
import sys
from typing import Any

import torch

from modelspace.cli.arguments import (
    add_data,
    add_json,
    add_target,
    checked_batch,
    keep_free,
    load_data,
    sample_shape,
    typed,
)
from modelspace.cli.results import print_json
from modelspace.cli.sizes import memory_size
from modelspace.cost import COLUMNS, DEFAULT_COLUMNS, Inspection, Spec, checked_columns, inspect
from modelspace.data import Data
from modelspace.errors import ModelspaceError
from modelspace.loading import load_architecture
from modelspace.show import Terminal

USAGE = "%(prog)s TARGET [--input SHAPE] [options]"
DESCRIPTION = """\
Measure an architecture before anything is trained, as a tree of the modules that it calls. Nothing is allocated:
the module is built on PyTorch's meta device and traced by shapes alone, forward and backward. Equal blocks in a row
are one line; the numbers of a line include what is below it. FLOP are those of matrix products, convolutions,
attention and recurrences (a multiply-and-add is two; a MAC is FLOP / 2); what has no formula is listed as not
counted.

Without --input the shape is guessed from the first layers, and said to be."""
EPILOG = f"""\
columns: {" ".join(COLUMNS)}

examples:
  modelspace inspect examples/dummynet.py:DummyNet --input 3x7x7
  modelspace inspect torchvision:resnet18 --batch-size 32 --columns parameters,flops,memory --optimizer adam
  modelspace inspect timm:vit_tiny_patch16_224 --sort flops --html vit.html
  modelspace inspect hf:gpt2/config.json --memory 24GiB --precision 'bfloat16 mixed'"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    add_target(parser)
    add_sample(parser)
    parser.add_argument(
        "--columns",
        default=",".join(DEFAULT_COLUMNS),
        metavar="NAME[,NAME…]",
        help=f"what is shown of each layer ({','.join(DEFAULT_COLUMNS)})",
    )
    parser.add_argument("--depth", type=int, default=3, metavar="N", help="levels of the tree (3)")
    parser.add_argument(
        "--sort", metavar="NAME", help="no tree: every layer by itself, the most of this column first"
    )
    parser.add_argument(
        "--optimizer",
        help="trace a whole training step for its memory: sgd, momentum, adam, adamw or rmsprop",
    )
    parser.add_argument(
        "--precision",
        help="number format of that step: float32, float64, bfloat16, float16, 'bfloat16 mixed', 'float16 mixed'",
    )
    parser.add_argument(
        "--memory",
        type=typed(memory_size, "memory"),
        metavar="24GiB",
        help="find the largest batch whose training step stays within this memory",
    )
    parser.add_argument(
        "--device-name",
        metavar="NAME",
        help="the least time of a pass on this device, by its published peaks: a100, h100, rtx4090, t4 …, or here",
    )
    parser.add_argument(
        "--html", metavar="FILE", help="write a page with treemaps, in one file that needs no network"
    )
    add_json(parser)


def add_sample(parser: argparse.ArgumentParser) -> None:
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


def call(options: argparse.Namespace) -> int:
    """Print the inspection, or write it."""
    columns = checked_columns(options.columns.split(","))
    if options.sort is not None:
        checked_columns([options.sort])
    if options.depth < 0:
        raise ModelspaceError(f"--depth is 0 or more levels; received {options.depth}")
    step = "memory" in (*columns, options.sort) or options.html
    optimizer = options.optimizer or ("adam" if step else None)
    found = inspect(
        load_architecture(options.target),
        optimizer=optimizer,
        precision=options.precision,
        memory=options.memory,
        device=options.device_name,
        **measured(options),
    )
    if options.html:
        from modelspace.report import write_inspection

        write_inspection(found, options.html)
    if options.json:
        print_json(summary(found))
    else:
        wide = sys.stdout.isatty()
        console = Terminal(width=None if wide else 200, soft_wrap=not wide)
        found.write(console, columns, options.depth, options.sort)
    return 0


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of ``inspect`` that --input, --data, --batch-size and their like stand for.

    Raises:
        ModelspaceError: one is out of range, or an argument of the architecture has a name of ours.
    """
    batch = checked_batch(options)
    keep_free(
        options, "input_shape", "batch", "dtype", "input_dtype", "optimizer", "precision", "memory", "device"
    )
    kind = {"float": torch.float32, "long": torch.long, None: None}[options.input_dtype]
    data = load_data(options)
    return {
        "input_shape": _samples(options, data),
        "batch": batch,
        "dtype": getattr(torch, options.dtype) if options.dtype else None,
        "input_dtype": kind,
        **options.model,
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


def summary(found: Inspection) -> dict[str, Any]:
    """The inspection as plain values."""
    record, counts, step = found.anatomy, found.counts, found.memory
    plain: dict[str, Any] = {
        "architecture": found.title,
        "dimension": found.dimension,
        "parameters": counts.parameters,
        "trainable": counts.trainable,
        "frozen": counts.frozen,
        "tied": dict(counts.tied),
        "buffers": counts.buffers,
        "by_kind": dict(counts.by_kind),
        "input_shape": list(record.input_shape),
        "input_guessed": found.sample.guessed,
        "batch": record.batch,
        "layers": [
            {
                "name": layer.name,
                "type": layer.type,
                "parameters": layer.parameters,
                "output_shape": list(layer.output_shape),
                "flops": layer.flops,
                "backward_flops": layer.backward_flops,
                "bytes": layer.bytes,
                "saved_bytes": layer.saved_bytes,
                "repeat": layer.repeat,
            }
            for layer in record.layers
        ],
        "flops": {
            "forward": record.forward_flops,
            "backward": record.backward_flops,
            "recomputed": record.recomputed_flops,
        },
        "peak_bytes": record.peak_bytes,
        "saved_bytes": record.saved_bytes,
        "uncounted": list(record.uncounted),
        "uncounted_calls": dict(record.uncounted),
        "may_hide_products": dict(record.unknown),
        "unknown_workspaces": dict(record.workspaces),
        "device": record.device,
        "computed": record.computed,
        "highlights": list(found.highlights()),
    }
    if step is not None:
        plain["step"] = {
            "optimizer": found.optimizer,
            "precision": found.precision,
            "peak_bytes": step.peak_bytes,
            "phase": step.phase,
            "by_kind": dict(step.by_kind),
            "by_module": {name or "": held for name, held in step.by_module.items() if name is not None},
            "by_no_module": step.by_module.get(None, 0),
        }
    if found.largest is not None:
        plain["largest_batch"] = {
            "batch": found.largest.batch,
            "peak_bytes": found.largest.peak_bytes,
            "next_peak_bytes": found.largest.next_peak_bytes,
        }
    if found.bound is not None:
        plain["time_bound"] = {
            "device": found.bound.device,
            "seconds": found.bound.seconds,
            "compute_seconds": found.bound.compute_seconds,
            "traffic_seconds": found.bound.traffic_seconds,
            "source": found.bound.source,
        }
    return plain
