"""The catalogue's table: it says what the losses say, and its filters are plain conditions on them."""

import math
import re
import runpy
from pathlib import Path

import pytest

from modelspace.errors import ModelspaceError
from modelspace.losses import CATALOGUE
from modelspace.losses.table import KINDS, kind_of, parameters, table


def test_each_loss_is_one_row_with_its_own_properties():
    found = table()
    assert list(found.index) == list(CATALOGUE)
    for name, loss in CATALOGUE.items():
        row, known = found.loc[name], loss.properties
        assert (row["outputs"], row["labels"]) == (loss.outputs, loss.labels)
        assert (row["convex"], row["calibrated"], row["proper"]) == (
            known.convex,
            known.calibrated,
            known.proper,
        )
        assert (row["lipschitz"], row["smooth"], row["bound"]) == (
            known.lipschitz,
            known.smooth,
            known.bound,
        )
        assert row["source"] == known.source
        assert all(f"{p} = " in row["parameters"] for p in loss.hyperparameters())


def test_kinds_are_the_catalogue_s_parts():
    assert {k for loss in CATALOGUE.values() for k in [kind_of(loss)]} == set(KINDS)
    assert list(table(kind="margin").index) == [n for n, v in CATALOGUE.items() if kind_of(v) == "margin"]


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("name", ["convex", "calibrated", "proper"])
def test_a_filter_keeps_what_is_so(name, value):
    expected = [n for n, loss in CATALOGUE.items() if getattr(loss.properties, name) is value]
    assert list(table(**{name: value}).index) == expected
    assert expected


@pytest.mark.parametrize(
    ("name", "field"), [("lipschitz", "lipschitz"), ("smooth", "smooth"), ("bounded", "bound")]
)
def test_a_constant_s_filter_asks_whether_it_is_finite(name, field):
    constants = {n: getattr(loss.properties, field) for n, loss in CATALOGUE.items()}
    finite = [n for n, value in constants.items() if value is not None and value < math.inf]
    assert list(table(**{name: True}).index) == finite
    assert list(table(**{name: False}).index) == [n for n in CATALOGUE if n not in finite]


def test_filters_are_taken_together():
    found = table(kind="margin", convex=True, smooth=True, labels="sign", calibrated=True)
    assert {"logistic", "squared_hinge"} <= set(found.index)
    assert not {"hinge", "savage", "perceptron"} & set(found.index)
    assert table(kind="regression", calibrated=True).empty


def test_parameters_say_default_and_range():
    assert parameters(CATALOGUE["focal"]) == {"gamma": "2, a number of at least 0"}
    assert parameters(CATALOGUE["hinge"]) == {}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"kind": "margins"}, "unknown kind of loss 'margins': did you mean 'margin'"),
        ({"labels": "signs"}, "unknown kind of labels 'signs': did you mean 'sign'"),
        ({"outputs": "logit"}, "unknown kind of outputs 'logit': did you mean 'logits'"),
    ],
)
def test_what_is_unknown_is_refused_with_the_nearest(asked, message):
    with pytest.raises(ModelspaceError, match=message):
        table(**asked)


ROOT = Path(__file__).parents[2]


def test_the_guide_s_table_is_the_catalogue_s():
    """Held cell by cell; `python docs/losses_table.py` rewrites it."""
    page = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
    lines = page.split("<!-- all losses: begin -->")[1].split("<!-- all losses: end -->")[0].splitlines()
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("| `")]
    found = {
        cells[0].strip(" `"): [re.sub(r"\\(.)", r"\1", c.strip()).replace("&lt;", "<") for c in cells[1:]]
        for cells in rows
    }
    words = {True: "yes", False: "no", None: "–"}
    expected = {
        name: [
            row["formula"],
            row["parameters"],
            words[row["convex"]],
            *(
                "–" if v is None else "∞" if v == math.inf else f"{v:.4g}"
                for v in (row["lipschitz"], row["smooth"])
            ),
            words[row["calibrated"]],
            words[row["proper"]],
            row["source"],
        ]
        for name, row in table().iterrows()
    }
    assert found == expected, "run python docs/losses_table.py"
    kinds = [line.removeprefix("### ").lower() for line in lines if line.startswith("### ")]
    assert kinds == list(KINDS)


def test_the_script_that_writes_it_changes_nothing_where_nothing_changed():
    script = runpy.run_path(str(ROOT / "docs" / "losses_table.py"))
    page = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
    assert script["rewritten"](page) == page
    assert script["rewritten"](page.replace("\n| `hinge` |", "\n| `henge` |")) == page
