"""Confusion matrices: for each member, how many labels of each class it takes for which."""

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from modelspace import data as datasets
from modelspace import metrics
from modelspace.engine.evaluate import SCORED_AT_ONCE, own_rows, probe
from modelspace.engine.predict import walked
from modelspace.errors import ModelspaceError, the_users_told
from modelspace.losses import prediction
from modelspace.nest import Nest, in_order, on, take, unweighted
from modelspace.population import Population
from modelspace.progress import progress
from modelspace.space import samples_as

_SHOWN = 20  # classes of a table


@dataclass(frozen=True, eq=False, repr=False)
class Confusion:
    """What each member takes the samples of each class for.

    Attributes:
        counts: ``[member, class of the label, class of the outputs]``.
        class_names: What the classes are called.
        split: Which split of the data it is of.
    """

    counts: Int64[Tensor, "member class class"]
    class_names: tuple[str, ...]
    split: str

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def shares(self) -> Float64[Tensor, "member class class"]:
        """Of the labels of a class, the share that is taken for each class; NaN where the split has none."""
        return self.counts.double() / self.counts.sum(2, keepdim=True)

    @property
    def by_class(self) -> pd.DataFrame:
        """Precision, recall and F1 of each class: their means over members, and their SDs in ``…_sd``; and support.

        TP/(TP + FP), TP/(TP + FN) and 2 TP/(2 TP + FP + FN) of each member; what would be 0/0 is 0. Support is the
        number of labels.
        """
        counts = self.counts.double()
        hit, taken, held = counts.diagonal(dim1=1, dim2=2), counts.sum(1), counts.sum(2)
        whole = {"precision": taken, "recall": held, "f1": (taken + held) / 2}
        table = {"support": held[0].long().numpy()}
        for name, of in whole.items():
            score = (hit / of).nan_to_num(0)
            table |= {name: score.mean(0).numpy()}
            table |= {f"{name}_sd": (score.std(0) if len(self) > 1 else score[0] * torch.nan).numpy()}
        return pd.DataFrame(table, pd.Index(self.class_names, name="class"))

    def member(self, k: int) -> pd.DataFrame:
        """Return one member's counts as a table: a row for each class of the labels."""
        return self._table(self.counts[k].numpy())

    def __repr__(self) -> str:
        mean = self._table(self.counts.double().mean(0).numpy())
        return f"{self._title()}\n{mean.to_string(max_rows=_SHOWN, max_cols=_SHOWN, float_format='{:.1f}'.format)}"

    def _repr_html_(self) -> str:
        names = [escape(name) for name in self.class_names[:_SHOWN]]
        mean, shares = self.counts.double().mean(0), self.counts.sum(0).double()
        shares = (shares / shares.sum(1, keepdim=True)).nan_to_num(0)
        rows = "".join(
            f"<tr><th>{name}</th>"
            + "".join(
                f'<td style="text-align:right;background:rgba(31,119,180,{shares[i, j]:.3f})">{mean[i, j]:.1f}</td>'
                for j in range(len(names))
            )
            + "</tr>"
            for i, name in enumerate(names)
        )
        head = "".join(f"<th>{name}</th>" for name in names)
        return f"<table><caption>{escape(self._title())}</caption><tr><th></th>{head}</tr>{rows}</table>"

    def _title(self) -> str:
        classes = len(self.class_names)
        more = f"; the first {_SHOWN} are shown" if classes > _SHOWN else ""
        return (
            f"Confusion of {len(self):,} members on the {self.split} split, {classes} classes: labels down, outputs "
            f"across, the mean over members{more}"
        )

    def _table(self, counts: Any) -> pd.DataFrame:
        return pd.DataFrame(counts, list(self.class_names), list(self.class_names))


@the_users_told()
def confusion(population: Any, data: Any, split: str = "test") -> Confusion:
    """Count, for every member, how many labels of each class its outputs take for which class.

    Args:
        population: K members; or a run, of which those that are kept.
        data: A ``Data`` or whatever ``modelspace.data.load`` takes; labels are classes.
        split: ``"train"``, ``"validation"`` or ``"test"``.

    Returns:
        The counts ``[K, C, C]``, with the data's names of the classes.

    Raises:
        ModelspaceError: an unknown split, an empty one, labels that are no classes, or inputs that do not fit.

    Example:
        >>> space = ms.ModelSpace(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), input_shape=(1, 8, 8))
        >>> found = ms.confusion(space.sample(seeds=3), "digits")
        >>> found.counts.shape, int(found.counts[0].sum())
        (torch.Size([3, 10, 10]), 359)
    """
    members: Population = population if isinstance(population, Population) else population.population
    data = datasets.load(data)
    part, own = data.part(split), own_rows(members, data, split)
    if own is not None:
        if len(set(members.table["task"].tolist())) > 1:
            raise ModelspaceError(
                "members of several tasks have samples of their own: give those of one, run.population[rows]"
            )
        part = part.take(own[0])
    labels = unweighted(part.labels)
    if not isinstance(labels, Tensor) or (labels.is_floating_point() and labels.ndim > 1):
        raise ModelspaceError(
            f"a confusion matrix is of class labels, and of {data.name} they are: {part.said}"
        )
    inputs = on(members.device, samples_as(part.inputs, members.space.dtype))
    labels = labels.to(members.device)
    few = prediction(probe(members.module(0), take(inputs, slice(2))))
    metrics.resolve("macro_f1").check_values(few, labels[:2])
    counts = []
    with progress(f"confusion of {len(members):,} members", len(members), "members") as advance:
        for rows, some in members.parts():
            counts.append((rows, _counts(some, inputs, labels, advance)))
    found = in_order(counts)
    names = data.class_names
    if names is None or len(names) != found.shape[1]:
        names = tuple(map(str, range(found.shape[1])))
    return Confusion(found, names, split)


def _counts(members: Population, inputs: Nest, labels: Tensor, advance: Callable[[int], None]) -> Tensor:
    """Count for members of one program, a piece of the samples at a time."""
    counts = []
    for rows, pieces in walked(members, inputs, SCORED_AT_ONCE):
        total = sum(
            torch.vmap(metrics.confusion, in_dims=(0, None))(prediction(outputs), labels[piece])
            for piece, outputs in pieces
        )
        assert isinstance(total, Tensor)
        counts.append(total.round().long().cpu())
        advance(rows.stop - rows.start)
    return torch.cat(counts)
