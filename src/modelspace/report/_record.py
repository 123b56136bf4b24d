"""``ReportRecord``: everything a page shows, as plain numbers and strings, and its JSON.

A number that does not exist (NaN) is None; infinity stays infinity, which JSON cannot hold: there it is
the string ``"inf"`` or ``"-inf"``. So a record equals the record read back from its JSON.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelspace.compare import Comparison, LossComparison
from modelspace.cost import Layer
from modelspace.doctor import Finding
from modelspace.engine import Plan
from modelspace.errors import ModelspaceError
from modelspace.losses import Curve
from modelspace.plain import plain, structured

FORMAT = 2


@dataclass(frozen=True)
class BlockRow:
    """One tensor of the architecture and its place: ``p[0:243]``, ``frozen`` or ``buffer``."""

    name: str
    shape: tuple[int, ...]
    size: int
    place: str


@dataclass(frozen=True)
class SpaceRecord:
    """The space's card.

    Attributes:
        title: The architecture's name with its arguments.
        dimension: n.
        dtype: The coordinates' type.
        input_shape: One sample's shape, where it is known.
        blocks: Coordinates, frozen parameters and buffers.
        tied: Pairs of (other name, first name).
        layers: In the order of their calls, of one sample; empty where the cost is unknown.
        forward_flops: A sample's forward.
        backward_flops: A sample's backward.
        peak_bytes: Most bytes alive at once in one training pass.
        peak_batch: Samples in that pass.
        uncounted: Operations without a FLOP formula.
        cost_problem: Why the cost is unknown; None where it is known.
    """

    title: str
    dimension: int
    dtype: str
    input_shape: tuple[int, ...] | None
    blocks: tuple[BlockRow, ...]
    tied: tuple[tuple[str, str], ...]
    layers: tuple[Layer, ...]
    forward_flops: int | None
    backward_flops: int | None
    peak_bytes: int | None
    peak_batch: int | None
    uncounted: tuple[str, ...]
    cost_problem: str | None


@dataclass(frozen=True)
class DataRecord:
    """The data's name; the sizes of its splits where they are known, and what was done with a table's columns."""

    name: str
    train: int | None = None
    validation: int | None = None
    test: int | None = None
    input_shape: tuple[int, ...] | None = None
    classes: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Value:
    """A hyper-parameter's value: as text, and as a number where it is one."""

    text: str
    number: float | None


@dataclass(frozen=True)
class Setting:
    """One combination of columns and its validation score over seeds.

    Quartiles count a diverged member as the worst, so they may be infinite; ``least`` and ``most`` are over
    the members with a score.
    """

    values: tuple[Value, ...]
    seeds: int
    diverged: int
    least: float | None
    q1: float | None
    median: float | None
    q3: float | None
    most: float | None


@dataclass(frozen=True)
class Band:
    """One curve's quantiles over members, epoch by epoch, and how many members made that epoch."""

    name: str
    members: tuple[int, ...]
    q05: tuple[float | None, ...]
    q25: tuple[float | None, ...]
    q50: tuple[float | None, ...]
    q75: tuple[float | None, ...]
    q95: tuple[float | None, ...]


@dataclass(frozen=True)
class Member:
    """One member: what made it, how it ended, its scores."""

    seed: int | None
    values: tuple[Value, ...]
    status: str
    steps: int
    scores: tuple[float | None, ...]


@dataclass(frozen=True)
class Summary:
    """One score's distribution over the members that did not diverge."""

    metric: str
    n: int
    mean: float | None
    sd: float | None
    min: float | None
    q1: float | None
    median: float | None
    q3: float | None
    max: float | None


@dataclass(frozen=True)
class Scores:
    """Scores of members at one setting.

    Attributes:
        split: ``test`` or ``validation``.
        metrics: The scores' names, the headline first.
        members: One a row, evenly chosen where there are very many; ``scores`` are in the order of ``metrics``.
        summaries: One a metric, in the same order, over all members.
        total: The members that there are; None where all are listed.
        diverged: How many of those diverged; None where all are listed.
    """

    split: str
    metrics: tuple[str, ...]
    members: tuple[Member, ...]
    summaries: tuple[Summary, ...]
    total: int | None = None
    diverged: int | None = None


@dataclass(frozen=True)
class FitRecord:
    """One run: what was fitted, how it was computed, and its curves.

    Attributes:
        name: ``sweep``, ``fresh`` or ``run``.
        members: K.
        seeds: The seeds as ranges, ``0–15``.
        columns: Each column with its values as text.
        statuses: Members by how they ended.
        diverged: The diverged members; of very many, the first.
        updates: Steps of all members together.
        seconds: Wall time, plan included.
        rate: Member-steps a second.
        plan: How.
        interrupted: Whether Ctrl-C ended it.
        bands_of: Whose curves the bands are.
        bands: One a curve.
    """

    name: str
    members: int
    seeds: str
    columns: tuple[tuple[str, str], ...]
    statuses: tuple[tuple[str, int], ...]
    diverged: tuple[Member, ...]
    updates: int
    seconds: float
    rate: float
    plan: Plan
    interrupted: bool
    bands_of: str
    bands: tuple[Band, ...]

    @property
    def lost(self) -> int:
        """How many members diverged; of very many, not all are in ``diverged``."""
        return dict(self.statuses).get("diverged", 0)


@dataclass(frozen=True)
class LossesRecord:
    """The losses of a run on equal terms.

    Attributes:
        comparison: Accuracy, pairs, margins, calibration, robustness; None where it can't be made.
        problem: Why not; None where it can.
        curves: Of the losses that have one, with the parameters they were trained at.
    """

    comparison: LossComparison | None
    problem: str | None
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class ClassScores:
    """One class: precision, recall and F1, means over members, with their SDs (None of one member).

    Attributes:
        name: What it is called.
        support: Labels of it.
        scores: Mean and SD of precision, recall and F1.
        taken_for: Of its labels, the share that is taken for each class, the mean over members.
    """

    name: str
    support: int
    scores: tuple[tuple[float, float | None], ...]
    taken_for: tuple[float, ...]


@dataclass(frozen=True)
class Table:
    """A table: its caption, its headings, its rows as text, and how many leading columns are words.

    The row that is ``marked`` is the chosen one; the first column of a ``tree`` is indented by its spaces.
    """

    caption: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    words: int = 1
    marked: int | None = None
    tree: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(map(tuple, self.rows)))


@dataclass(frozen=True)
class KeptPlot:
    """A figure as plain values; the attributes are those of a page's ``Plot``."""

    key: str
    caption: str
    alternative: str
    figure: dict[str, Any]
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class KeptSection:
    """A section whose figures are plain values; the attributes are those of a page's ``Section``."""

    heading: str
    paragraphs: tuple[str, ...]
    plots: tuple[KeptPlot, ...]
    tables: tuple[Table, ...]
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ReportRecord:
    """Everything a page shows.

    No name here is one of the keys that ``--json`` promises, so a summary can hold both side by side.

    Attributes:
        kind: ``exploration`` or ``run``.
        created: When, ISO 8601 in UTC.
        made_by: The command line, where there was one.
        versions: Programs and the machine, by name.
        space: The space's card.
        dataset: The data.
        metric: The headline score.
        higher_is_better: Of the headline score.
        columns: The hyper-parameters' names, in the order of each setting's values.
        response: One a combination of columns, in the order swept.
        best: Which of them was chosen on validation; None where none could be.
        fits: ``sweep`` and ``fresh``, or ``run``.
        recipe: The settings of the fits, as text.
        scores: The members at the chosen setting: on test for an exploration, on validation for a run.
        pair: Two fresh members compared.
        losses: The losses on equal terms, where the loss is a column.
        diagnosis: What the doctor found before anything was trained.
        classes: How each class fares on the test split, over the fresh members; empty where there are none or many.
        ground: The loss between fresh members, and how it bends there; empty where that was not computed.
        format: Version of this record.
    """

    kind: str
    created: str
    made_by: str | None
    versions: tuple[tuple[str, str], ...]
    space: SpaceRecord
    dataset: DataRecord
    metric: str
    higher_is_better: bool
    columns: tuple[str, ...]
    response: tuple[Setting, ...]
    best: int | None
    fits: tuple[FitRecord, ...]
    recipe: tuple[tuple[str, str], ...]
    scores: Scores | None
    pair: Comparison | None
    losses: LossesRecord | None = None
    diagnosis: tuple[Finding, ...] = ()
    classes: tuple[ClassScores, ...] = ()
    ground: tuple[KeptSection, ...] = ()
    format: int = FORMAT

    @property
    def varying(self) -> tuple[int, ...]:
        """Positions of the columns that took more than one value."""
        positions = range(len(self.columns))
        return tuple(i for i in positions if len({s.values[i].text for s in self.response}) > 1)

    @property
    def chosen_among(self) -> tuple[int, ...]:
        """Of these, the columns that are a choice: label noise is a condition."""
        return tuple(i for i in self.varying if self.columns[i] != "label_noise")

    @property
    def rivals(self) -> list[Setting]:
        """The settings that the chosen one was chosen among: those under its own condition; all where none was."""
        return self.slice(*self.chosen_among) if self.best is not None else list(self.response)

    def slice(self, *columns: int) -> list[Setting]:
        """The settings that differ from the chosen one (the first, where none is) in these columns alone."""
        if not self.response:
            return []
        chosen = self.response[self.best or 0].values
        fixed = [i for i in range(len(self.columns)) if i not in columns]
        return [s for s in self.response if all(s.values[i] == chosen[i] for i in fixed)]

    def to_json(self) -> str:
        """Return the record as one JSON object, valid for strict readers too."""
        return json.dumps(plain(self), ensure_ascii=False, allow_nan=False)

    @staticmethod
    def from_plain(values: Any) -> "ReportRecord":
        """Return the record whose plain values these are; other keys beside its own are passed over.

        Raises:
            ModelspaceError: something is missing or of another kind; it says where.
        """
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            found = values.get("format") if isinstance(values, dict) else type(values).__name__
            raise ModelspaceError(f"this is no report record of format {FORMAT}: its format is {found!r}")
        try:
            return structured(values, ReportRecord, "record")
        except ValueError as error:
            raise ModelspaceError(f"this is no report record: {error}") from error

    @staticmethod
    def from_json(text: str) -> "ReportRecord":
        """Return the record that ``to_json`` gave, exactly.

        Raises:
            ModelspaceError: it is no such JSON.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ModelspaceError(f"a report record is JSON, but this is not: {error}") from error
        return ReportRecord.from_plain(values)
