"""Tables: which column is learned, and how the others become numbers; what was done is said.

Numbers are standardised on the training split; booleans are 0 and 1; strings and categories are one-hot, as many
columns as the training split has values. Dates, and columns of more than ``MOST_VALUES`` strings, are refused. What
is missing is refused, or becomes the training split's mean with a column beside it that says so.
"""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from modelspace.data.assemble import carve
from modelspace.data.dataset import Data, Split
from modelspace.errors import ModelspaceError, first_line, unknown_name
from modelspace.nest import WeightedLabels
from modelspace.progress import notice

FILES = (".csv", ".parquet")
MOST_VALUES = 32  # of a column of strings, and of whole numbers that are classes
_LISTED = 8
Names = str | Iterable[str] | None
Frame = Any  # pd.DataFrame and pd.Series, of whose operations a type checker knows too many types
Series = Any


@dataclass(frozen=True)
class Column:
    """How one column of a table becomes numbers.

    Attributes:
        name: Its name.
        kind: ``number``, ``boolean`` or ``category``.
        mean: What is subtracted.
        scale: What is divided by.
        fill: What stands for a missing number before that.
        values: Of a category, those of the training split, one number each.
        gaps: Whether a further number says that the value is missing.
    """

    name: str
    kind: str
    mean: float = 0.0
    scale: float = 1.0
    fill: float = 0.0
    values: tuple[str, ...] = ()
    gaps: bool = False

    @property
    def numbers(self) -> list[str]:
        """What its numbers are called."""
        own = [f"{self.name}={value}" for value in self.values] if self.kind == "category" else [self.name]
        return own + [f"{self.name} is missing"] * self.gaps

    def encode(self, series: Series) -> np.ndarray:
        """Return its numbers, ``[row, number]``; a value that the training split lacks is all zeros."""
        gaps = series.isna().to_numpy()
        if self.kind == "category":
            texts = _texts(series).to_numpy(dtype=object)
            columns = [texts == value for value in self.values]
        else:
            given = series.to_numpy(dtype=np.float64, na_value=np.nan)
            columns = [(np.where(gaps, self.fill, given) - self.mean) / self.scale]
        return np.stack([*columns, *[gaps] * self.gaps], 1).astype(np.float64)


@dataclass(frozen=True)
class Encoder:
    """A table's columns as numbers, by what the training split said of them.

    Attributes:
        columns: The columns, in their order.
    """

    columns: tuple[Column, ...]

    @property
    def numbers(self) -> tuple[str, ...]:
        """What the numbers of a sample are called: ``age``, ``city=Paris``, ``age is missing``."""
        return tuple(name for column in self.columns for name in column.numbers)

    def __call__(self, table: Any) -> Float[Tensor, "row number"]:
        """Encode another table of the same columns, for predictions; further columns are passed over.

        Raises:
            ModelspaceError: a column is not there, holds another kind of values, or lacks some.
        """
        frame = frame_of(table, "the table")
        problems, parts = [], []
        for column in self.columns:
            if column.name not in frame:
                raise unknown_name("column", column.name, frame.columns)
            series = frame[column.name]
            kind, problem = kind_of(series)
            as_number = {kind, column.kind} <= {"number", "boolean"}
            if problem or (kind != column.kind and not as_number and not series.isna().all()):
                problems.append(problem or f"column '{column.name}' is a {kind}, and was a {column.kind}")
            elif series.isna().any() and not column.gaps:
                problems.append(f"column '{column.name}' has missing values, and had none")
            else:
                parts.append(column.encode(series))
        if problems:
            raise ModelspaceError("; ".join(problems))
        return torch.from_numpy(np.concatenate(parts, 1)).to(torch.get_default_dtype())


def is_table(source: Any) -> bool:
    """Whether it is a frame of pandas or polars, or the path of a file that holds one."""
    if isinstance(source, (str, Path)):
        return str(source).lower().endswith(FILES)
    # Of its class: a lazy frame of polars would resolve its query to answer for itself.
    kind = type(source)
    return hasattr(kind, "columns") and (hasattr(kind, "to_numpy") or hasattr(kind, "collect"))


def frame_of(source: Any, name: str) -> Frame:
    """Return a table as a frame of pandas.

    Args:
        source: A frame of pandas or polars, a ``datasets.Dataset``, or the path of a ``.csv`` or ``.parquet`` file.
        name: What errors call it.

    Raises:
        ModelspaceError: it is none, or can't be read; it has no rows, or two columns of one name.
    """
    if isinstance(source, (str, Path)):
        frame = _read(Path(source))
    elif isinstance(source, pd.DataFrame):
        frame = source
    elif type(source).__module__.startswith("polars"):
        source = source.collect() if hasattr(source, "collect") else source
        frame = pd.DataFrame({column: source[column].to_numpy() for column in source.columns})
    elif hasattr(source, "to_pandas"):
        frame = source.to_pandas()
    else:
        raise ModelspaceError(
            f"data '{name}' is a {type(source).__name__}, which has no columns: target= and missing= are of a table "
            "(a frame, a .csv or a .parquet file)"
        )
    frame = frame.set_axis([str(column) for column in frame.columns], axis=1).reset_index(drop=True)
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise ModelspaceError(f"data '{name}' has more than one column '{twice[0]}': rename them")
    if not len(frame):
        raise ModelspaceError(f"data '{name}' has no samples")
    return frame


def of_tables(
    parts: Mapping[str, Any],
    *,
    target: Names,
    group: str | None,
    standardise: bool,
    missing: str | None,
    weights: str | None,
    splits: Iterable[float],
    seed: int,
    name: str,
) -> Data:
    """Data out of tables, of which some splits are given: see ``modelspace.data.load``."""
    frames = {part: frame_of(table, name) for part, table in parts.items()}
    first = frames["train"]
    for part, frame in frames.items():
        if set(frame.columns) != set(first.columns):
            other = sorted(set(frame.columns) ^ set(first.columns))
            raise ModelspaceError(
                f"data '{name}': the {part} table and the train table differ in their columns ({_list(other)}): they "
                "have to be alike"
            )
    whole: Frame = pd.concat([frame[first.columns] for frame in frames.values()], ignore_index=True)
    if missing not in (None, "mean"):
        raise unknown_name("way to fill in what is missing", str(missing), ("mean",))
    targets = _targets(whole, target, name)
    for column in (group, weights):
        if column is not None and not (isinstance(column, str) and column in whole):
            raise unknown_name("column", str(column), whole.columns)
    taken = {*targets, group, weights}
    numbered = [
        column
        for column in whole
        if column.startswith("Unnamed:") and (first[column] == np.arange(len(first))).all()
    ]
    features = whole[[column for column in whole if column not in taken and column not in numbered]]
    if not len(features.columns):
        raise ModelspaceError(
            f"data '{name}' has no columns beside {_list(taken - {None})}: none is left as input"
        )
    kinds = _kinds(features, whole[[c for c in whole if c in taken]], missing, name)

    labels, classes, notes = _labels(whole, targets)
    if weights is not None:
        labels = WeightedLabels(labels, _numbers(whole[weights]))
        if labels.labels is None or bool((labels.weights < 0).any()):
            raise ModelspaceError(
                f"weights: column '{weights}' has to be at least 0, and there have to be labels"
            )
        notes = (*notes, f"weights of the samples: '{weights}'")
    rows = torch.arange(len(whole))
    groups = None if group is None else torch.from_numpy(pd.factorize(whole[group])[0].astype(np.int64))
    marked = Split(rows, labels, groups=groups)
    begins = np.cumsum([0, *(len(frame) for frame in frames.values())])
    given = {part: marked.take(slice(a, b)) for part, a, b in zip(frames, begins, begins[1:], strict=False)}
    cut = carve(given, splits=splits, seed=seed, name=name)

    train = features.iloc[cut.train.inputs.numpy()]
    columns = [_fitted(features[c], train[c], kinds[c], standardise) for c in features]
    encoder = Encoder(tuple(columns))
    encoded = encoder(features)
    notes = (*_said(encoder, features, train, standardise), *notes)
    if numbered:
        notes = (f"left out, the rows' numbers: {_list(numbered)}", *notes)
    if group is not None:
        notes = (*notes, f"rows of one '{group}' stay in one split")
    notice(
        f"data '{name}': {len(encoder.columns)} columns, {encoded.shape[1]} numbers a sample; "
        + "; ".join(notes)
    )
    made = {part: replace(split, inputs=encoded[split.inputs]) for part, split in cut.splits.items()}
    return replace(cut, **made, notes=notes, class_names=classes, encoder=encoder)


def kind_of(series: Series) -> tuple[str, str | None]:
    """Return whether a column holds numbers, booleans or categories, or what is wrong with it."""
    kind, types = series.dtype, pd.api.types
    name = f"column '{series.name}'"
    if isinstance(kind, pd.CategoricalDtype):
        return "category", None
    found = types.infer_dtype(series, skipna=True)
    if types.is_bool_dtype(kind) or found == "boolean":
        return "boolean", None
    if types.is_numeric_dtype(kind) and not types.is_complex_dtype(kind):
        return "number", None
    if found in ("integer", "floating", "mixed-integer-float", "decimal"):
        return "number", None
    if found == "empty":
        return "", f"{name} is empty: leave it out"
    if found in ("datetime64", "datetime", "date", "timedelta64", "timedelta", "time", "period", "interval"):
        return "", _dated(series)
    if found == "string":
        return "category", None
    return (
        "",
        f"{name} holds {found} values ({series.dropna().iloc[0]!r}): make it numbers or strings, or leave it out",
    )


def _dated(series: Series) -> str:
    return (
        f"column '{series.name}' holds dates or times: give what matters of them as numbers, such as "
        f"frame['{series.name}'].dt.month, or leave it out"
    )


def _kinds(features: Frame, others: Frame, missing: str | None, name: str) -> dict[str, str]:
    """Every column's kind, if there is nothing wrong with any of them."""
    problems, kinds = [], {}
    for column in features:
        series = features[column]
        kinds[column], problem = kind_of(series)
        if problem is None and kinds[column] == "category":
            problem = _too_many(series)
        elif problem is None and np.isinf(series.to_numpy(dtype=np.float64, na_value=np.nan)).any():
            problem = f"column '{column}' holds infinite numbers: leave these rows out"
        problems += [problem] * (problem is not None)
    problems += _gaps(others, "leave these rows out")
    if missing is None:
        problems += _gaps(
            features,
            "leave these rows or columns out, or give missing='mean', which fills in the training split's mean and "
            "adds a column that says so",
        )
    if problems:
        raise ModelspaceError(f"data '{name}': " + "; ".join(problems))
    return kinds


def _gaps(frame: Frame, fix: str) -> list[str]:
    gaps = frame.isna().sum()
    counts = [f"'{column}' ({count} of {len(frame)})" for column, count in gaps.items() if count]
    return [f"values are missing in {_list(counts)}: {fix}"] if counts else []


def _too_many(series: Series) -> str | None:
    values = series.dropna().unique()
    if len(values) <= MOST_VALUES:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dates = pd.to_datetime(pd.Series(values[:MOST_VALUES]).astype(str), errors="coerce")
    if dates.notna().all():
        return _dated(series)
    return (
        f"column '{series.name}' has {len(values):,} different values, and one-hot are columns of up to "
        f"{MOST_VALUES}: leave it out, or group its values (for an embedding, give (inputs, labels) tensors)"
    )


def _targets(frame: Frame, target: Names, name: str) -> list[str]:
    if target is None:
        raise ModelspaceError(
            f"data '{name}' is a table: give target=, the name of the column that is to be learned (its columns: "
            f"{_list(frame.columns)})"
        )
    targets = [target] if isinstance(target, str) else list(target)
    for column in targets:
        if column not in frame:
            raise unknown_name("column", column, frame.columns)
    return targets


def _labels(frame: Frame, targets: list[str]) -> tuple[Any, tuple[str, ...] | None, tuple[str, ...]]:
    """The labels, the names of their classes, and what is said of them."""
    if not targets:
        return None, None, ("no labels",)
    kinds = {}
    for column in targets:
        kinds[column], problem = kind_of(frame[column])
        if problem:
            raise ModelspaceError(f"target: {problem}")
    if len(targets) > 1:
        if "category" not in kinds.values():
            matrix = torch.stack([_numbers(frame[column]) for column in targets], 1)
            return matrix, None, (f"labels: {_list(targets)}, as they are",)
        each = {
            c: _classes(frame[c]) if kinds[c] == "category" else (_numbers(frame[c]), None) for c in targets
        }
        said = [f"{c} ({_list(names)})" if names else c for c, (_, names) in each.items()]
        return {c: labels for c, (labels, _) in each.items()}, None, (f"labels, by name: {_list(said)}",)
    series = frame[targets[0]]
    whole = pd.api.types.is_integer_dtype(series.dtype) and series.nunique() <= MOST_VALUES
    if kinds[targets[0]] == "number" and not whole:
        return _numbers(series), None, (f"label: '{series.name}', a quantity, as it is",)
    labels, names = _classes(series)
    return labels, names, (f"label: '{series.name}', {len(names)} classes: {_list(names)}",)


def _classes(series: Series) -> tuple[Tensor, tuple[str, ...]]:
    """Class numbers and names: numbers by size, categories in their own order, strings by letter."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.cat.remove_unused_categories()
        values = list(series.cat.categories)
    else:
        values = sorted(series.unique())
    codes = pd.Categorical(series, categories=values).codes
    return torch.from_numpy(np.array(codes, dtype=np.int64)), tuple(map(str, values))


def _numbers(series: Series) -> Tensor:
    kind, problem = kind_of(series)
    if problem or kind == "category":
        raise ModelspaceError(problem or f"column '{series.name}' holds text: numbers are needed")
    return torch.from_numpy(series.to_numpy(dtype=np.float64).copy()).to(torch.get_default_dtype())


def _fitted(whole: Series, train: Series, kind: str, standardise: bool) -> Column:
    name, gaps = str(whole.name), bool(whole.isna().any())
    if kind == "category":
        seen = train.dropna()
        if isinstance(whole.dtype, pd.CategoricalDtype):
            present = set(seen)
            values = [value for value in whole.cat.categories if value in present]
        else:
            values = sorted(seen.unique())
        return Column(name, kind, values=tuple(map(str, values)), gaps=gaps)
    numbers = train.to_numpy(dtype=np.float64, na_value=np.nan)
    known = numbers[~np.isnan(numbers)]
    mean, deviation = (float(known.mean()), float(known.std())) if len(known) else (0.0, 0.0)
    if kind == "boolean" or not standardise:
        return Column(name, kind, fill=mean, gaps=gaps)
    # What is constant but for the rounding of its mean is not blown up.
    scale = deviation if deviation > 1e-12 * abs(mean) else 1.0
    return Column(name, kind, mean, scale, mean, gaps=gaps)


def _said(encoder: Encoder, features: Frame, train: Frame, standardise: bool) -> tuple[str, ...]:
    """What was done with each column, a line for each way."""
    of: dict[str, list[str]] = {}
    for column in encoder.columns:
        text = column.name
        constant = column.kind != "category" and train[column.name].nunique() < 2
        if column.kind == "category":
            text = f"{column.name} ({len(column.values)})"
            unseen = set(_texts(features[column.name].dropna())) - set(column.values)
            if unseen:
                of.setdefault("zeros for values that the training split lacks", []).append(
                    f"{column.name} ({_list(sorted(unseen))})"
                )
        of.setdefault(column.kind, []).append(text)
        if column.gaps:
            of.setdefault("gaps", []).append(f"{column.name} ({int(features[column.name].isna().sum())})")
        if constant:
            of.setdefault("constant in the training split", []).append(column.name)
    words = {
        "number": "numbers, " + ("standardised on the training split" if standardise else "as they are"),
        "boolean": "booleans, 0 and 1",
        "category": "one-hot, of so many values",
        "gaps": "missing values, the training split's mean (one-hot: zeros) and a column that says so",
    }
    return tuple(f"{words.get(kind, kind)}: {', '.join(names)}" for kind, names in of.items())


def _texts(series: Series) -> Series:
    return series.astype(object).map(str, na_action="ignore")


def _list(names: Iterable[Any]) -> str:
    texts = [str(name) for name in names]
    return ", ".join(texts[:_LISTED]) + (f", … ({len(texts)})" if len(texts) > _LISTED else "")


def _read(path: Path) -> Frame:
    if not path.is_file():
        raise ModelspaceError(f"no file '{path}' (looked in {Path.cwd()})")
    try:
        return pd.read_csv(path) if path.suffix.lower() == ".csv" else pd.read_parquet(path)
    except ImportError as error:
        raise ModelspaceError(
            f"reading '{path}' needs a package that can't be imported ({first_line(error)}): "
            "pip install 'torch-modelspace[parquet]'"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelspaceError(f"'{path}' can't be read as a table: {first_line(error)}") from error
