"""The arguments that several verbs share, and what they stand for."""

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from modelspace import data as datasets
from modelspace import losses
from modelspace.cli import values
from modelspace.cli.parser import typed
from modelspace.data import Data
from modelspace.distribute import RayRunner
from modelspace.errors import ModelspaceError, unknown_name
from modelspace.fit.precision import PRECISIONS
from modelspace.fit.recipe import LABEL_NOISE
from modelspace.loading import load_architecture
from modelspace.optimizers import RANGES
from modelspace.space import ModelSpace

_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
_COLUMNS = {**RANGES, **losses.ranges(), "label_noise": LABEL_NOISE}


def add_target(parser: argparse.ArgumentParser) -> None:
    """TARGET and what it is built with."""
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="the architecture: file.py:Name or package.module:Name (a class, a factory or a module). "
        "The file is executed: name only files you trust. Its own arguments: --model.KEY VALUE",
    )
    parser.add_argument(
        "--input",
        type=typed(values.shape, "shape"),
        metavar="3x7x7",
        help="one sample's shape without the batch (default: from the data)",
    )
    parser.add_argument(
        "--dtype", choices=list(_DTYPES), help="cast the architecture (default: as it is built)"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument(
        "--json", action="store_true", help="one JSON object on standard output, and nothing else there"
    )


def add_data(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """--data and how it is split."""
    parser.add_argument(
        "--data",
        required=required,
        metavar="DATA",
        help="digits, digits-7x7, mnist1d, a .npz file, or file.py:function returning (inputs, labels), "
        "a Dataset or a DataLoader",
    )
    parser.add_argument(
        "--split-seed", type=int, default=0, metavar="S", help="seed of the train/validation/test split (0)"
    )


def add_fit(parser: argparse.ArgumentParser) -> None:
    """Everything that ``fit`` takes."""
    parser.add_argument(
        "--seeds",
        type=typed(values.seeds, "seeds"),
        default=list(range(16)),
        metavar="N",
        help="how many seeds (16), or which: 3,5,8 or 100-131",
    )
    parser.add_argument(
        "--epochs", type=int, default=20, metavar="N", help="passes over the training split (20)"
    )
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="samples a step (32)")
    parser.add_argument(
        "--loss",
        default="cross_entropy",
        metavar="NAME[,NAME…]",
        help="a loss by name (cross_entropy): see modelspace losses; several are a column, one a member",
    )
    parser.add_argument("--optimizer", default="adam", help="sgd, adam, adamw or rmsprop (adam)")
    parser.add_argument(
        "--schedule",
        help="cosine, step, one-cycle, warmup, or a product: 'warmup*cosine' (default: constant)",
    )
    parser.add_argument(
        "--early-stopping",
        type=int,
        metavar="EPOCHS",
        help="stop a member whose validation loss has not improved for so many epochs",
    )
    parser.add_argument(
        "--plan",
        choices=["auto", "loop", "vmap", "compile"],
        default="auto",
        help="how members are computed; auto measures and takes the fastest",
    )
    parser.add_argument(
        "--shard", type=int, metavar="N", help="members computed together (default: measured)"
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads within an operation (default: measured)"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that share the shards (default: measured)"
    )
    parser.add_argument(
        "--runner",
        default="local",
        metavar="local|ray",
        help="who trains: this machine, or a Ray cluster: that of --address, else of RAY_ADDRESS, else a Ray started "
        "on this machine for the run (local)",
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="the Ray cluster's, for --runner ray; auto: the one of this machine",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="32",
        help="number format of matrix products: 32 is the architecture's own; tf32 on NVIDIA GPUs (32)",
    )
    parser.add_argument(
        "--accumulate", type=int, default=1, metavar="N", help="batches whose gradients make one update (1)"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps (cpu)")
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="where report.html and the other files go, and where the run is written down as it goes: the same "
        "command again continues a run that was stopped, and trains only what is missing",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="remove what --out holds of another run, and start anew"
    )
    parser.add_argument(
        "--keep",
        type=typed(values.keep, "keep"),
        default="all",
        metavar="WHAT",
        help="whose points are kept: all, scores (none), or the best N of each setting (all)",
    )
    parser.add_argument(
        "--checkpoint",
        type=typed(values.seconds, "seconds"),
        default=60.0,
        metavar="SECONDS",
        help="how often a shard in training is put down in --out (60)",
    )
    columns = parser.add_argument_group(
        "columns",
        "Hyper-parameters, one value a member: a value (1e-3), several (1e-3,1e-2), or a logarithmic\n"
        "range low:high:count (1e-4:1e-1:12). Several columns: every combination.",
    )
    for name, allowed in _COLUMNS.items():
        if allowed.width == 2:
            columns.add_argument(
                _flag(name),
                type=typed(values.pairs, "pairs"),
                metavar="A/B",
                help=f"{allowed.label}: 0.9/0.999",
            )
        else:
            columns.add_argument(
                _flag(name),
                type=typed(values.column, "column"),
                metavar="V",
                help=f"{allowed.label}: {allowed.expected}",
            )
    columns.add_argument(
        "--data-seed",
        type=typed(values.seeds, "seeds"),
        metavar="V",
        help="seeds of the data order, one a member: 4 for 0 to 3 (default: all members share one order)",
    )


def chosen_columns(options: argparse.Namespace) -> dict[str, Any]:
    """The columns that were given."""
    named = {name: getattr(options, name) for name in (*_COLUMNS, "data_seed")}
    several = {"loss": options.loss.split(",")} if "," in options.loss else {}
    return {**several, **{name: value for name, value in named.items() if value is not None}}


def fit_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of ``fit``."""
    lowering = {"auto": None, "loop": "loop", "vmap": "vmap", "compile": "vmap"}[options.plan]
    return {
        "loss": options.loss.partition(",")[0],
        "optimizer": options.optimizer,
        "schedule": options.schedule,
        "epochs": options.epochs,
        "batch_size": options.batch,
        "early_stopping": options.early_stopping,
        "lowering": lowering,
        "shard": options.shard,
        "threads": options.threads,
        "workers": options.workers,
        "runner": _runner(options),
        "precision": options.precision,
        "accumulate": options.accumulate,
        "compile": {"auto": None, "compile": True}.get(options.plan, False),
        "out": options.out,
        "fresh": options.fresh,
        "keep": options.keep,
        "checkpoint_seconds": options.checkpoint,
    }


def _runner(options: argparse.Namespace) -> str | RayRunner:
    """Who trains, by --runner and --address."""
    if options.address is None:
        return options.runner
    if options.runner != "ray":
        raise ModelspaceError(f"--address goes with --runner ray; received --runner {options.runner}")
    return RayRunner(options.address)


def load_data(options: argparse.Namespace) -> Data | None:
    """The data that --data names."""
    return None if options.data is None else datasets.load(options.data, seed=options.split_seed)


def load_space(
    options: argparse.Namespace,
    data: Data | None,
    target: str | None = None,
    *,
    input_dtype: torch.dtype | None = None,
) -> ModelSpace:
    """The space that TARGET names, for samples of the data's or of --input's shape."""
    shape = sample_shape(options, data)
    keep_free(options, "input_shape", "dtype", "input_dtype")
    return ModelSpace(
        load_architecture(target or options.target),
        input_shape=shape,
        dtype=_DTYPES[options.dtype] if options.dtype else None,
        input_dtype=input_dtype or (torch.float32 if data is None else data.train.inputs.dtype),
        **options.model,
    )


def keep_free(options: argparse.Namespace, *names: str) -> None:
    """Refuse arguments of the architecture that have a name of ours.

    Raises:
        ModelspaceError: --model has one of the names.
    """
    taken = set(names) & set(options.model)
    if taken:
        raise ModelspaceError(f"--model.{taken.pop()} can't be passed on: rename the architecture's argument")


def checked_batch(options: argparse.Namespace) -> int | None:
    """The --batch of a verb that measures one.

    Raises:
        ModelspaceError: it is below 1.
    """
    if options.batch is not None and options.batch < 1:
        raise ModelspaceError(f"--batch must be at least 1; received {options.batch}")
    return options.batch


def sample_shape(options: argparse.Namespace, data: Data | None) -> tuple[int, ...] | None:
    """One sample's shape: the data's, or --input's; None where neither was given.

    Raises:
        ModelspaceError: both were, and differ.
    """
    if data is None:
        return options.input
    if options.input is not None and options.input != data.input_shape:
        raise ModelspaceError(
            f"--input is {options.input}, but the samples of {data.name} are {data.input_shape}"
        )
    return data.input_shape


def load_device(name: str) -> torch.device:
    """The device that --device names, if this machine has it.

    Raises:
        ModelspaceError: it has not.
    """
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("nothing is computed there")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        available = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        available += ["mps"] if torch.backends.mps.is_available() else []
        raise unknown_name("device", name, available) from error
    return device


def output_folder(text: str | None) -> Path | None:
    """The folder for results, made and tried out before anything is computed.

    Raises:
        ModelspaceError: it can't be made or written to.
    """
    if text is None:
        return None
    folder = Path(text)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f".trial-{os.getpid()}"
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise ModelspaceError(f"can't write to --out {folder}: {error.strerror or error}") from error
    return folder


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def command_line() -> str:
    """The command as typed, for a report's 'how to reproduce'."""
    return shlex.join(["modelspace", *sys.argv[1:]])
