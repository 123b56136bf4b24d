"""The arguments that several verbs share, and what they stand for."""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import torch

from modelspace import data as datasets
from modelspace import losses, metrics
from modelspace.cli import values
from modelspace.cli.parser import typed
from modelspace.data import Data
from modelspace.distribute import RayRunner
from modelspace.errors import ModelspaceError, unknown_name
from modelspace.export import TARGETS
from modelspace.fit import DIVIDING, LABEL_NOISE, LAYER_DECAY, PLANS, Options, Record
from modelspace.loading import load_architecture, load_object
from modelspace.optimizers import RANGES
from modelspace.space import ModelSpace

_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
_COLUMNS = {**RANGES, **losses.ranges(), "label_noise": LABEL_NOISE, "layer_decay": LAYER_DECAY}
_FLAGGED = (*_COLUMNS, "data_seed", *datasets.COLUMNS)
_TIMES = ("every", "at", "logarithmic", "epochs")  # of --record
# Settings of fit whose flag is a column's, and the one that has none.
_NO_FLAG = ("clip_norm", "clip_value", "data_seed", "on_epoch", "groups")
_CHOICES = {
    "shard": "members computed together",
    "threads": "threads within an operation",
    "workers": "processes that share the shards",
}
_SEVERAL = ("loss", *DIVIDING)  # settings that are columns where several values are given
_READ = {
    "batch_size": typed(values.numbers, "numbers"),
    "accumulate": typed(values.numbers, "numbers"),
    "early_stopping": int,
    "metrics": typed(lambda text: [metrics.resolve(name) for name in text.split(",")], "metrics"),
    "keep": typed(values.keep, "keep"),
    "checkpoint_seconds": typed(values.seconds, "seconds"),
}
_METAVAR = {
    "loss": "NAME[,NAME…]",
    "objective": "FILE.py:NAME[,…]",
    "optimizer": "NAME[,NAME…]",
    "schedule": "NAME[,NAME…]",
    "batch_size": "N[,N…]",
    "accumulate": "N[,N…]",
    "metrics": "NAME[,NAME…]",
    "early_stopping": "EPOCHS",
    "runner": "local|ray",
    "out": "FOLDER",
    "keep": "WHAT",
    "checkpoint_seconds": "SECONDS",
    "record": "WHAT[@TIMES][,…]",
}
_MORE = {
    "loss": "see modelspace losses; several are a column, one a member; or yours, file.py:name",
    "metrics": f"{', '.join(metrics.METRICS)}; f1_2, precision_2, recall_2, iou_2 of class 2; top_5_accuracy",
    "record": "loss,grad_norm; points@every=100, @at=0/10/100, @logarithmic=20 of updates, @epochs=5 (default: the "
    "start, and after each epoch); file.py:f of a member",
    "runner": "that of --address, else of RAY_ADDRESS, else one started on this machine for the run",
    "out": "report.html and the other files go there too; the same command again continues a run that was stopped, "
    "and trains only what is missing",
}


def add_target(parser: argparse.ArgumentParser, *, number: str | None = None) -> None:
    """TARGET and what it is built with; ``number`` as argparse has it, ``?`` or ``+``."""
    parser.add_argument(
        "target",
        nargs=number,
        metavar="TARGET",
        help="the architecture: file.py:Name or package.module:Name (a class, a factory or a module). "
        "The file is executed: name only files you trust. Its own arguments: --model.KEY VALUE; a sequence stands in "
        "brackets, [16,32]",
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


def add_json(parser: argparse.ArgumentParser | argparse._MutuallyExclusiveGroup) -> None:
    """--json."""
    parser.add_argument(
        "--json", action="store_true", help="one JSON object on standard output, and nothing else there"
    )


def add_data(parser: argparse.ArgumentParser, *, required: bool, flag: str = "--data") -> None:
    """--data and how it is split."""
    parser.add_argument(
        flag,
        dest="data",
        required=required,
        metavar="DATA",
        help="digits, digits-7x7, mnist1d, a .npz file, a table (.csv or .parquet, with --target), or "
        "file.py:function returning (inputs, labels), a frame, a Dataset or a DataLoader",
    )
    parser.add_argument(
        "--target",
        dest="learned",
        metavar="COLUMN[,COLUMN…]",
        help="the column of a table that is learned; of the others, numbers are standardised on the training split, "
        "strings one-hot",
    )
    parser.add_argument(
        "--data-group", metavar="COLUMN", help="the column of a table whose equal rows stay in one split"
    )
    parser.add_argument(
        "--weights",
        metavar="COLUMN",
        help="the column of a table that says how much a sample counts in the loss",
    )
    parser.add_argument(
        "--missing",
        choices=["mean"],
        help="what stands for a table's missing values: the training split's mean, said by a further column "
        "(default: they are refused)",
    )
    parser.add_argument(
        "--split-seed", type=int, default=0, metavar="S", help="seed of the train/validation/test split (0)"
    )


def add_fit(parser: argparse.ArgumentParser, *, without: tuple[str, ...] = ()) -> None:
    """Everything that ``fit`` takes, without some settings."""
    if "seeds" not in without:
        parser.add_argument(
            "--seeds",
            type=typed(values.seeds, "seeds"),
            default=list(range(16)),
            metavar="N",
            help="how many seeds (16), or which: 3,5,8 or 100-131",
        )
    for each in fields(Options):
        if each.name not in (*_NO_FLAG, *without):
            _add_setting(parser, each)
    parser.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="NAME=PATTERN",
        help="parameters that have columns of their own: head='fc.*|*.bias' for --lr.head; or no_decay, layers; may "
        "be given more than once",
    )
    for name, what in _CHOICES.items():
        parser.add_argument(_flag(name), type=int, metavar="N", help=f"{what} (default: measured)")
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="the Ray cluster's, for --runner ray; auto: the one of this machine",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps (cpu)")
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
    for name, what in datasets.COLUMNS.items():
        counted = name != "samples"
        columns.add_argument(
            _flag(name),
            type=typed(values.seeds, "numbers") if counted else typed(values.column, "column"),
            metavar="V",
            help=what + (": 4 for 0 to 3, or which: 3,5,8 or 100-131" if counted else ": 50,100,200"),
        )
    columns.add_argument(
        "--column",
        action=_Column,
        type=typed(values.named, "column"),
        default={},
        metavar="NAME=V[,V…]",
        help="one that has no flag: a number among the keyword arguments of your --objective, --transform or --loss "
        "(of def elbo(model, x, beta=1.0): beta=0.1,1); may be given more than once",
    )


class _Column(argparse.Action):
    """``--column NAME=V`` into a dict, or as ``--NAME V`` where that is a column's flag."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, given: Any, _: str | None = None):
        """Keep the values; of a column with a flag by the flag, of ``lr.head`` the text, as that flag is read later.

        Raises:
            ModelspaceError: the name was there already or can be no column's, or a value is no number.
        """
        name, text = given
        known = getattr(namespace, self.dest)
        if name in known:
            raise ModelspaceError(
                f"--column {name}: given more than once; several values are one column, {name}=V,V"
            )
        if name in ("self", "seeds"):
            raise ModelspaceError(f"--column {name}: no column may be called so; seeds are given by --seeds")
        if name in (*_FLAGGED, *_SEVERAL):
            flag = parser._option_string_actions[_flag(name)]
            flag(parser, namespace, parser._get_values(flag, [text]))
            read = None  # what counts is the flag's
        else:
            read = text if "." in name else _plain(name, text)
        setattr(namespace, self.dest, {**known, name: read})


def _plain(name: str, text: str) -> list[Any]:
    """A column's values, whole numbers as such: an architecture counts with them."""
    try:
        return [int(v) if isinstance(v, float) and v.is_integer() else v for v in values.column(text)]
    except ModelspaceError as error:
        raise ModelspaceError(f"--column {name}={text}: {error}") from None


def add_export(parser: argparse.ArgumentParser) -> None:
    """--export."""
    parser.add_argument(
        "--export",
        action="append",
        default=[],
        metavar="TO=PLACE",
        help=f"write the results for another tool too: {', '.join(TARGETS)} (csv=members.csv, "
        "tensorboard=runs/tb, mlflow=sqlite:///runs.db, wandb=my-project); may be given more than once",
    )


def chosen_columns(options: argparse.Namespace) -> dict[str, Any]:
    """The columns that were given."""
    named = {name: getattr(options, name) for name in _FLAGGED}
    several = {name: given for name in _SEVERAL if len(given := _several(getattr(options, name))) > 1}
    if "objective" in several:
        several["objective"] = [each.rpartition(":")[2] for each in several["objective"]]
    own = {name: values.column(text) for name, text in options.grouped.items()}
    model = {name: value for name, value in varied(options.model).items() if isinstance(value, list)}
    return {
        **model,
        **several,
        **{n: v for n, v in {**options.column, **named}.items() if v is not None},
        **own,
    }


def varied(model: Mapping[str, Any]) -> dict[str, Any]:
    """--model's values, those with commas as lists; a value in brackets is one value.

    Raises:
        ModelspaceError: a value between two commas is missing.
    """
    found = {}
    for name, value in model.items():
        if isinstance(value, str) and "," in value:
            parts = value.split(",")
            if not all(parts):
                raise ModelspaceError(f"--model.{name} {value}: a value between commas is missing")
            found[name] = [values.argument(part) for part in parts]
        elif isinstance(value, tuple):
            found[name] = list(value)
        else:
            found[name] = tuple(value) if isinstance(value, list) else value
    return found


def built_with(options: argparse.Namespace) -> dict[str, Any]:
    """The architecture's own arguments: of those that are columns the first values.

    Raises:
        ModelspaceError: one has several values, and the verb is about one space.
    """
    given = varied(options.model)
    for name, value in given.items():
        if isinstance(value, list) and not hasattr(options, "data_seed"):
            raise ModelspaceError(
                f"--model.{name} {','.join(map(str, value))}: {options.verb} takes one value; one that is a sequence "
                "stands in brackets, [16,32]"
            )
    return {name: value[0] if isinstance(value, list) else value for name, value in given.items()}


def _add_setting(parser: argparse.ArgumentParser, setting: Field[Any]) -> None:
    """A setting of ``fit`` as a flag: its type, default and first sentence."""
    name, default, choices = setting.name, setting.default, setting.metadata["choices"]
    if setting.type is bool:
        parser.add_argument(_flag(name), action="store_true", help=_help(setting))
        return
    parser.add_argument(
        _flag(name),
        type=_READ.get(name, int if setting.type is int else None),
        default=default,
        choices=choices or None,
        metavar=_METAVAR.get(name, "N" if setting.type is int else None),
        help=f"{_help(setting)} ({default})" if default is not None else _help(setting),
    )


def _help(setting: Field[Any]) -> str:
    first = re.split(r"\. (?=[A-Z`])", setting.metadata["doc"])[0].replace("`", "").rstrip(".")
    more = _MORE.get(setting.name)
    return first[0].lower() + first[1:] + (f": {more}" if more else "")


def fit_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of ``fit``."""
    known = [
        each.name for each in fields(Options) if each.name not in _NO_FLAG and hasattr(options, each.name)
    ]
    named = {name: getattr(options, name) for name in known}
    choices = {name: getattr(options, name) for name in _CHOICES if getattr(options, name) is not None}
    first = {name: (_several(named[name]) or [None])[0] for name in _SEVERAL}
    return {
        **named,
        **first,
        "loss": function_named(first["loss"]),
        "objective": _objective(options.objective),
        "transform": function_named(options.transform),
        "plan": {**PLANS[options.plan], **choices},
        "runner": _runner(options),
        "groups": [_group(text) for text in options.group],
        **({"record": [_record(text) for text in named["record"].split(",")]} if named.get("record") else {}),
    }


def _several(given: str | list[int] | int | None) -> list[Any]:
    """The values of a setting of which several may be given."""
    if isinstance(given, str):
        return re.split(r",(?![^(]*\))", given)  # a comma within brackets is one value's own
    return given if isinstance(given, list) else [] if given is None else [given]


def _objective(given: str | None) -> Any:
    """A function, or several by their names."""
    several = {each.rpartition(":")[2]: function_named(each) for each in _several(given)}
    return several if len(several) > 1 else next(iter(several.values()), None)


def function_named(given: str | None) -> Any:
    """A function by its file or module: ``file.py:function``; another word as it is."""
    return load_object(given) if given and ":" in given else given


def _group(text: str) -> str | dict[str, str]:
    """A group by --group: a word, or a name and its pattern."""
    name, equals, pattern = text.partition("=")
    return {name: pattern} if equals else name


def _record(text: str) -> Record:
    """What is recorded, by --record: a name or a function, and its times."""
    what = text
    times: dict[str, Any] = {}
    if "@" in text:
        what, _, when = text.rpartition("@")
        kind, _, value = when.partition("=")
        if kind not in _TIMES:
            raise unknown_name("kind of times", kind, _TIMES)
        read: Callable[[str], Any] = values.numbers if kind == "at" else values.integer
        times = {kind: read(value.replace("/", ","))}
    return Record(function_named(what), **times)


def _runner(options: argparse.Namespace) -> str | RayRunner:
    """Who trains, by --runner and --address."""
    if options.address is None:
        return options.runner
    if options.runner != "ray":
        raise ModelspaceError(f"--address goes with --runner ray; received --runner {options.runner}")
    return RayRunner(options.address)


def load_data(options: argparse.Namespace) -> Data | None:
    """The data that --data names.

    Raises:
        ModelspaceError: a column is named without a table.
    """
    if options.data is None:
        given = {"target": options.learned, "data-group": options.data_group, "weights": options.weights}
        given["missing"] = options.missing
        for flag in (name for name, value in given.items() if value):
            raise ModelspaceError(f"--{flag} is of a table: give it by --data")
        return None
    columns = options.learned.split(",") if options.learned else []
    return datasets.load(
        options.data,
        seed=options.split_seed,
        target=columns[0] if len(columns) == 1 else columns or None,
        group=options.data_group,
        weights=options.weights,
        missing=options.missing,
    )


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
        input_dtype=input_dtype or (torch.float32 if data is None else data.input_dtype),
        **built_with(options),
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
    """The --batch-size of a verb that measures one.

    Raises:
        ModelspaceError: it is below 1.
    """
    if options.batch_size is not None and options.batch_size < 1:
        raise ModelspaceError(f"--batch-size must be at least 1; received {options.batch_size}")
    return options.batch_size


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
