"""Predictions as a table: what is predicted, how probable each class is, and how unsure that is."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from modelspace.data import Split
from modelspace.ensemble._combine import kind_of, uncertainty_of
from modelspace.ensemble._module import Ensemble
from modelspace.errors import ModelspaceError


def predictions(ensemble: Ensemble, inputs: Any, class_names: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the ensemble's predictions on samples, a row a sample.

    Of classes: ``prediction``, the class; ``p_…`` of each class, which is the share of votes where outputs stand for
    no probabilities; ``agreement``, the share of members that take that class; ``total``, ``aleatoric`` and
    ``epistemic`` uncertainty in nats (see ``Uncertainty``). Of values: ``prediction`` and ``sd``, the members' own
    standard deviation about it, or the mixture's; with a number after them where there are several.

    Args:
        ensemble: The members.
        inputs: ``[N, …]``, a tensor or a nest; or a ``Split``.
        class_names: What the classes are called; their numbers where None.

    Raises:
        ModelspaceError: the inputs do not fit, there are too few names, or outputs are of places in a picture.

    Example:
        >>> from modelspace.examples import DummyNet
        >>> members = ms.Ensemble(ms.ModelSpace(DummyNet).sample(seeds=3), loss="cross_entropy")
        >>> list(predictions(members, torch.rand(2, 3, 7, 7), class_names=list("abcdefghij")).columns[:3])
        ['prediction', 'p_a', 'p_b']
    """
    outputs = ensemble.over(inputs.inputs if isinstance(inputs, Split) else inputs)
    kind, combined = kind_of(ensemble.loss), ensemble.combined(outputs)
    unsure = uncertainty_of(ensemble.loss, outputs, ensemble.weights.cpu())
    if combined.ndim > 2:
        raise ModelspaceError(
            f"a table is of one prediction a sample, and a sample's is of shape {list(combined.shape[1:])}: take "
            "ensemble(x)"
        )
    if kind not in ("classes", "binary"):
        return _values(combined, unsure.total if unsure.total is not None else unsure.epistemic)
    shares = combined if kind == "classes" else torch.stack([1 - (p := combined.reshape(-1)), p], 1)
    names = [str(name) for name in class_names or range(shares.shape[1])]
    if len(names) < shares.shape[1]:
        raise ModelspaceError(f"{shares.shape[1]} classes have {len(names)} names: {', '.join(names)}")
    taken = shares.argmax(1)
    own = outputs.argmax(2) if kind == "classes" else (outputs.reshape(len(outputs), -1) > 0).long()
    weights = ensemble.weights.cpu().to(torch.float64)
    table = {"prediction": [names[k] for k in taken.tolist()]}
    table |= {f"p_{name}": shares[:, k].tolist() for k, name in enumerate(names[: shares.shape[1]])}
    table["agreement"] = ((own == taken).double() * weights[:, None]).sum(0).tolist()
    parts = {"total": unsure.total, "aleatoric": unsure.aleatoric, "epistemic": unsure.epistemic}
    return pd.DataFrame(table | {n: v.reshape(-1).tolist() for n, v in parts.items() if v is not None})


def _values(combined: Tensor, variance: Tensor) -> pd.DataFrame:
    """One prediction or several of each sample, and the standard deviation about each."""
    combined, sd = (
        combined.reshape(len(combined), -1),
        variance.reshape(len(variance), -1).clamp(min=0).sqrt(),
    )
    several = sd.shape[1] > 1
    columns = {}
    for k in range(sd.shape[1]):  # of a location and a scale the first half are locations
        columns[f"prediction_{k}" if several else "prediction"] = combined[:, k].tolist()
        columns[f"sd_{k}" if several else "sd"] = sd[:, k].tolist()
    return pd.DataFrame(columns)
