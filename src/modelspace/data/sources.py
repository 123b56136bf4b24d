"""Data from wherever it is: the one entry, ``load``."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
    default_convert,
)

from modelspace.data.assemble import carve
from modelspace.data.builtin import BUILTIN, DEFAULT_SPLITS
from modelspace.data.check import check_data
from modelspace.data.convert import ARRAYS, has_arrays, is_nest, split_of
from modelspace.data.dataset import Data, Split
from modelspace.data.frames import is_table, of_tables
from modelspace.data.mapped import read_mapped
from modelspace.data.materialise import tensors_or_items
from modelspace.data.npz import read_npz, read_whole
from modelspace.errors import ModelspaceError, told, unknown_name
from modelspace.loading import load_object

_SPLITS = ("train", "validation", "test")
_LONGEST = 4096  # of a path
_ACCEPTED = "a .npz file or file.py:function"


def load(
    source: Any,
    *,
    splits: Iterable[float] = DEFAULT_SPLITS,
    seed: int = 0,
    name: str | None = None,
    target: str | Iterable[str] | None = None,
    group: Any = None,
    standardise: bool = True,
    missing: str | None = None,
    weights: Any = None,
) -> Data:
    """The data that ``source`` names or is, checked and split.

    ``source`` is one of

    - ``Data``: itself; neither split nor converted;
    - ``"digits"``, ``"digits-7x7"``, ``"mnist1d"``: built in, no download;
    - a path to a ``.npz`` file with the arrays ``inputs`` and ``labels`` (or ``x`` and ``y``, ``X`` and
      ``y``), or already split into ``x_train``, ``y_train``, ``x_val``, ``y_val``, ``x_test``, ``y_test``; a
      split that is missing is cut out of train. It is read without unpickling anything;
    - a path to a ``.safetensors`` file, or to a directory of ``.npy`` files, with tensors of the same names; or
      ``inputs.NAME`` for inputs that are a dict; labels may be left out. They stay in their files, mapped into
      memory, and may be larger than it. What isn't split is split in the file's order, the first rows for training.
      The same is done with a whole ``numpy.memmap``;
    - ``"file.py:function"`` or ``"package.module:function"``, called without arguments, or with ``seed=`` if
      it has such a parameter; what it returns is taken as any other source. **This executes the file**, as
      ``python file.py`` would: name only files you trust;
    - ``(inputs, labels)``: two tensors or NumPy arrays, or nests of them: tuples, dicts, named tuples, dataclasses.
      The model is called with a tuple's parts by position, with a dict's by keyword, with any other nest as it is;
    - a longer tuple, ``(a, b, labels)``: its last part is the labels; a dict: its part ``labels`` or ``label`` is; a
      tensor, or a nest without such a part: inputs alone, for an objective of the model and the batch;
    - a dict of sources by split, ``{"train": …, "test": …}``; a split that is missing is cut out of train;
    - a ``TensorDataset``, or any map-style data set whose items are such nests: read once, item by
      item; one whose items are drawn at random is refused;
    - with ``target=``, a table: a frame of pandas or polars, a ``datasets.Dataset``, or the path of a ``.csv`` or
      ``.parquet`` file. Its other columns become numbers, and what was done with each is said (``Data.notes``):
      numbers are standardised on the training split, booleans are 0 and 1, strings and categories one-hot, one
      number for each value of the training split. Dates and columns of more than 32 strings are refused;
    - a ``DataLoader``: its data set, by its collate function if it has its own, which is called once with all items.
      One with a sampler or a batch sampler of its own is refused, since these would be ignored; so is an
      iterable-style data set, whose end is unknown. ``modelspace.data.stream`` trains on a loader's own batches,
      without reading them into memory.

    Class labels (one integer a sample) are split so that each class has its share in each split to within one
    sample; others at random. Inputs keep their dtype, except that a float64 *NumPy array* becomes
    ``torch.get_default_dtype()`` (complex128, its complex form); integer labels become int64, float labels
    ``torch.get_default_dtype()``, booleans within a nest of labels stay.

    Args:
        source: As above.
        splits: Fractions of train (> 0), validation and test (≥ 0); they sum to 1.
        seed: Of the split, 0 … 2⁶³ − 1. Global random streams are neither read nor changed.
        name: What reports call the data; otherwise the name of the source.
        target: Of a table, the column that is learned. Strings, categories, booleans and whole numbers of at most 32
            values are classes, whose names are kept (``Data.class_names``); other numbers are quantities and stay as
            they are. Several columns: a matrix ``[N, column]``, or, with strings among them, a dict. None of them,
            ``[]``: no labels.
        group: Samples of one group stay in one split: of a table, a column, which is then no input; of other sources,
            an array of one whole number or string a sample.
        standardise: Of a table, whether numbers are standardised.
        missing: Of a table, ``"mean"`` puts the training split's mean in a missing value's place, and adds a column
            that says so; where None, they are refused.
        weights: Of a table, a column, which is then no input; of other sources, an array: a weight of at least 0 a
            sample. A loss is then Σ wᵢ ℓᵢ / Σ wᵢ over a batch, and over a split; metrics count samples alike.

    Returns:
        Three disjoint splits that hold every sample once.

    Raises:
        ModelspaceError: the source is unknown or unreadable, or ``modelspace.data.check_data`` objects.

    >>> import torch
    >>> load((torch.rand(100, 3), torch.arange(100) % 4), name="noise")
    Data('noise': 60 train, 20 validation, 20 test; inputs 3 float32, 4 classes)
    """
    given = _called(source, seed) if isinstance(source, str) and ":" in source else source
    parts: Mapping[str, Any] = given if _is_split(given) else {"train": given}
    if all(is_table(part) or (target is not None and _has_columns(part)) for part in parts.values()):
        table_name = Path(given).stem if isinstance(given, (str, Path)) else type(given).__name__
        called = name or (source if isinstance(source, str) and given is not source else table_name)
        return of_tables(
            parts,
            target=target,
            group=group,
            standardise=standardise,
            missing=missing,
            weights=weights,
            splits=splits,
            seed=seed,
            name=called,
        )
    if target is not None or missing is not None:
        raise ModelspaceError(
            f"target= and missing= are of a table (a frame, a .csv or a .parquet file); received "
            f"{type(given).__name__}{f' {given!r}' if isinstance(given, str) else ''}"
        )
    if isinstance(group, str):
        raise ModelspaceError(
            f"group='{group}' is a column of a table; of a {type(given).__name__}, give an array, a group a sample"
        )
    if isinstance(weights, str):
        raise ModelspaceError(
            f"weights='{weights}' is a column of a table; of a {type(given).__name__}, give an array"
        )
    how = {"splits": splits, "seed": seed, "groups": group, "weights": weights}
    if _stays_in_file(given):
        path = Path(given)
        return carve(read_mapped(path), name=name or path.stem, **how)
    if isinstance(given, Path) or (isinstance(given, str) and given.endswith(".npz")):
        path = Path(given)
        return carve(read_npz(path), name=name or path.stem, **how)
    if isinstance(given, str) and given is source:
        canonical = source.replace("_", "-")
        if canonical not in BUILTIN:
            raise ModelspaceError(f"{unknown_name('data set', source, BUILTIN)}; or give {_ACCEPTED}")
        if group is not None or weights is not None:
            raise ModelspaceError(f"data '{source}' is built in, without groups and weights: leave them out")
        return _named(BUILTIN[canonical](seed, splits), name)
    return _of_object(given, how, name, default=None if given is source else source)


def whole(source: Any, like: Data | None = None) -> Split:
    """Read all samples of a source in their order, neither split nor shuffled: those that are predicted on.

    Args:
        source: A path to a ``.npz`` file (``x``, or ``inputs``; labels may be left out) or to a table; a frame;
            tensors or a nest; ``file.py:function``; or data that are split, of which the test samples are taken.
        like: What was fitted on: the table whose columns a table is encoded by.

    Raises:
        ModelspaceError: it can't be read, or a table without the table that it is to be encoded like.

    >>> import torch
    >>> whole(torch.rand(5, 3))
    Split(5 samples: inputs 3 float32, no labels)
    """
    given = _called(source, 0) if isinstance(source, str) and ":" in source else source
    if is_table(given):
        if like is None or like.encoder is None:
            raise ModelspaceError(
                "a table is encoded as the one that was fitted on, which is not known: give like=, the data loaded "
                "from it"
            )
        return Split(like.encoder(given))
    if isinstance(given, Path) or (isinstance(given, str) and given.endswith(".npz")):
        inputs, labels = read_whole(Path(given))
        given = inputs if labels is None else (inputs, labels)
    elif isinstance(given, str | Data | DataLoader) or _is_map_style(given):
        loaded = load(given)
        return loaded.test if len(loaded.test) else loaded.train
    return split_of(given, "the samples: inputs", "the samples: labels")


def _stays_in_file(source: Any) -> TypeGuard[str | Path]:
    """Whether it is the path of a ``.safetensors`` file or of a directory."""
    if not isinstance(source, (str, Path)) or source in BUILTIN:
        return False
    return str(source).endswith(".safetensors") or (len(str(source)) < _LONGEST and Path(source).is_dir())


def _is_split(source: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether it is a dict of sources by split."""
    return isinstance(source, Mapping) and "train" in source and set(source) <= set(_SPLITS)


def _has_columns(source: Any) -> bool:
    """Whether it is a ``datasets.Dataset``, whose items are a table's rows."""
    return hasattr(source, "column_names") and hasattr(source, "to_pandas")


def _of_object(
    source: Any,
    how: dict[str, Any],
    name: str | None,
    default: str | None,
    collate: Callable[[list[Any]], Any] | None = None,
) -> Data:
    """Data out of anything but text, cut as ``carve`` is told; ``default`` names it where ``name`` doesn't."""
    if isinstance(source, Data):
        if how["groups"] is not None or how["weights"] is not None:
            raise ModelspaceError(
                f"data '{source.name}' is split already: give group= and weights= where it is loaded"
            )
        check_data(source, rows=source.train.whole)
        return _named(source, name)
    if isinstance(source, DataLoader):
        dataset, collate = _dataset_of(source)
        return _of_object(dataset, how, name, default, collate)
    called = name or default or ("data" if isinstance(source, (tuple, list)) else type(source).__name__)
    if _is_split(source):
        parts = {part: _part_of(value, f"{called}, {part}") for part, value in source.items()}
        return carve(parts, name=called, **how)
    pairs = isinstance(source, list) and len(source) != 2  # perhaps the splits, or the items
    named = not isinstance(source, (tuple, list)) and has_arrays(source)  # what is no array in it has a path
    if collate is None and (is_nest(source) or named) and not pairs and not _is_map_style(source):
        return carve({"train": source}, name=called, **how)
    if isinstance(source, (tuple, list)):
        kinds = ", ".join(type(part).__name__ for part in source[:4]) + (", …" if len(source) > 4 else "")
        raise ModelspaceError(
            f"data '{called}' is a {type(source).__name__} of {len(source)} ({kinds}): "
            "expected (inputs, labels), two tensors or NumPy arrays, or nests of them; for data that is split "
            "already, modelspace.data.of_splits"
        )
    if isinstance(source, IterableDataset):
        raise ModelspaceError(
            f"data '{called}' is iterable-style, its end unknown: modelspace.data.stream(loader) reads a DataLoader "
            "of it as it is trained on; or collect it into (inputs, labels) tensors"
        )
    if hasattr(source, "to_numpy"):
        raise ModelspaceError(
            f"data '{called}' is a {type(source).__name__}, which doesn't say what is input and what label: give two "
            "arrays, (x.to_numpy(), y.to_numpy()), or the frame, with target= the column that is learned"
        )
    if _is_map_style(source):
        split = tensors_or_items(source, called, collate)
        return carve({"train": split}, name=called, **how)
    raise ModelspaceError(
        f"data '{called}' is a {type(source).__name__}: expected a built-in name ({', '.join(BUILTIN)}), "
        f"{_ACCEPTED}, (inputs, labels), a data set with __len__ and __getitem__, a DataLoader, or "
        "modelspace.data.Data"
    )


def _part_of(source: Any, name: str) -> Any:
    """One split of several, each from a source of its own."""
    if isinstance(source, DataLoader):
        return tensors_or_items(*_dataset_of(source)[:1], name, _dataset_of(source)[1])
    if _is_map_style(source):
        return tensors_or_items(source, name)
    if not isinstance(source, Split) and not has_arrays(source):
        raise ModelspaceError(
            f"data '{name}' is a {type(source).__name__}: expected (inputs, labels), a nest of tensors, a data set "
            "with __len__ and __getitem__, or a DataLoader"
        )
    return source


def _is_map_style(source: Any) -> bool:
    """Whether its items are to be read one by one; a dataclass of tensors may be such a data set, or a nest."""
    held = (str, bytes, Mapping, tuple, list, Split, *ARRAYS)
    return hasattr(source, "__getitem__") and hasattr(source, "__len__") and not isinstance(source, held)


def _named(data: Data, name: str | None) -> Data:
    return data if name is None or name == data.name else replace(data, name=name)


def _called(target: str, seed: int) -> Any:
    """What the function that ``target`` names returns; what can't be called is itself the source."""
    function = load_object(target)
    if not callable(function):
        return function
    arguments = {"seed": seed} if "seed" in inspect.signature(function).parameters else {}
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise ModelspaceError(
            f"'{target}' can't be called without arguments ({error}): give it defaults"
        ) from None
    try:
        return function(**arguments)
    except Exception as error:
        raise ModelspaceError(f"'{target}' fails when it runs: {told(error)}") from error


def _dataset_of(loader: DataLoader) -> tuple[Any, Callable[[list[Any]], Any] | None]:
    """The loader's data set, if the loader would show all of it, and its own collate function."""
    if isinstance(loader.dataset, IterableDataset):
        return loader.dataset, None
    own: list[str] = []
    if loader.batch_sampler is not None and type(loader.batch_sampler) is not BatchSampler:
        own.append(f"batch sampler ({type(loader.batch_sampler).__name__})")
    else:
        sampler = loader.sampler if loader.batch_sampler is None else loader.batch_sampler.sampler
        shuffled = type(sampler) is RandomSampler and not sampler.replacement
        if not shuffled and type(sampler) is not SequentialSampler:
            own.append(f"sampler ({type(sampler).__name__})")
    if own:
        raise ModelspaceError(
            f"the DataLoader has its own {' and '.join(own)}, which would be ignored: modelspace.data.stream(loader) "
            "trains on its batches as they come; or give its data set, loader.dataset, with torch.utils.data.Subset "
            "for part of it"
        )
    own_function = loader.collate_fn not in (default_collate, default_convert)
    return loader.dataset, loader.collate_fn if own_function else None
