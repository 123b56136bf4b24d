"""Tables: each column as it is said to become numbers, standardised on the training split alone."""

import builtins

import numpy as np
import pandas as pd
import pytest
import torch

import modelspace as ms
from modelspace.data import load, views_of
from modelspace.errors import ModelspaceError

N = 120
RANDOM = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "age": RANDOM.normal(40, 10, N).round(1),
        "rooms": RANDOM.integers(0, 100, N),
        "sold": RANDOM.random(N) > 0.5,
        "city": RANDOM.choice(["Rome", "Oslo", "Paris"], N),
        "size": pd.Categorical(RANDOM.choice(["small", "large"], N), categories=["small", "huge", "large"]),
        "price": RANDOM.normal(0, 1e3, N),
        "shop": RANDOM.integers(0, 15, N),
    }
)


class Polars(pd.DataFrame):
    """What is used of a frame of polars: its columns, each with ``to_numpy``."""

    __module__ = "polars.dataframe.frame"


class Table:
    """What is used of a ``datasets.Dataset``: its rows are its items."""

    column_names = tuple(FRAME)

    def to_pandas(self):
        return FRAME

    def __len__(self):
        return N

    def __getitem__(self, index):
        return FRAME.iloc[index].to_dict()


def rows_of(data):
    """Which row of the frame each sample is, by its price."""
    return {
        n: [int((FRAME["price"] - p).abs().argmin()) for p in s.labels.tolist()]
        for n, s in data.splits.items()
    }


def test_each_column_becomes_the_numbers_that_are_said(capsys):
    data = load(FRAME, target="price", group="shop", name="homes")
    names = ("age", "rooms", "sold", "city=Oslo", "city=Paris", "city=Rome", "size=small", "size=large")
    assert data.encoder.numbers == names
    rows = rows_of(data)
    train = FRAME.iloc[rows["train"]]
    for name, split in data.splits.items():
        mine = FRAME.iloc[rows[name]]
        expected = [(mine[c] - train[c].mean()) / train[c].std(ddof=0) for c in ("age", "rooms")]
        expected += [mine["sold"], *(mine["city"] == c for c in ("Oslo", "Paris", "Rome"))]
        expected += [mine["size"] == c for c in ("small", "large")]
        assert np.allclose(split.inputs.numpy(), np.stack(expected, 1).astype(float), atol=1e-5)
        assert len(split.groups) == len(split)
    assert data.notes == (
        "numbers, standardised on the training split: age, rooms",
        "booleans, 0 and 1: sold",
        "one-hot, of so many values: city (3), size (2)",
        "label: 'price', a quantity, as it is",
        "rows of one 'shop' stay in one split",
    )
    said = capsys.readouterr().err
    for note in data.notes:
        assert note in said
        assert note in repr(data)
        assert note.replace("'", "&#x27;") in data._repr_html_()
    again = data.encoder(FRAME.iloc[rows["test"]])
    assert torch.equal(again, data.test.inputs)


def test_rows_of_a_group_stay_in_one_split():
    data = load(FRAME, target="price", group="shop")
    shops = [set(FRAME["shop"].iloc[rows]) for rows in rows_of(data).values()]
    assert all(shops)
    assert not shops[0] & shops[1] | shops[0] & shops[2] | shops[1] & shops[2]
    assert data.groups is data.train.groups
    sizes = [len(split) for split in data.splits.values()]
    assert np.abs(np.array(sizes) - N * np.array([0.6, 0.2, 0.2])).max() < 10
    group = np.array(list("abcde")).repeat(8)
    other = load((torch.arange(40.0), torch.arange(40) % 2), group=group)
    assert [len(set(group[split.inputs.long()])) for split in other.splits.values()] == [3, 1, 1]
    with pytest.raises(ModelspaceError, match="2 groups can't be divided among 3 splits"):
        load((torch.arange(4.0), torch.zeros(4)), group=[0, 0, 1, 1])
    with pytest.raises(ModelspaceError, match=r"groups of shape \[2\] for 4 samples"):
        load((torch.arange(4.0), torch.zeros(4)), group=[0, 1])


def test_folds_keep_groups_together():
    data = load(FRAME, target="price", group="shop")
    views = views_of(data, pd.DataFrame({"fold": range(4)}), 4, 0)
    scored = []
    for k in range(4):
        trained, held = (views.pool.groups[rows(k)] for rows in (views.train, views.validation))
        assert not set(trained.tolist()) & set(held.tolist())
        scored += views.validation(k).tolist()
    assert sorted(scored) == list(range(len(data.train) + len(data.validation)))


def test_the_same_table_from_everywhere(tmp_path):
    FRAME.to_csv(tmp_path / "homes.csv")  # with the rows' numbers
    FRAME.to_parquet(tmp_path / "homes.parquet")
    (tmp_path / "made.py").write_text(
        f"import pandas as pd\ndef table(): return pd.read_parquet({str(tmp_path / 'homes.parquet')!r})\n"
    )
    first = load(FRAME, target="price")
    for source in (
        tmp_path / "homes.parquet",
        str(tmp_path / "homes.parquet"),
        f"{tmp_path}/made.py:table",
        Table(),
    ):
        data = load(source, target="price")
        assert data.encoder.numbers == first.encoder.numbers
        assert torch.equal(data.train.inputs, first.train.inputs)
    plain = FRAME.assign(size=FRAME["size"].astype(str))
    of_csv, of_polars = load(tmp_path / "homes.csv", target="price"), load(Polars(plain), target="price")
    assert of_csv.name == "homes"
    assert torch.equal(of_csv.train.inputs, load(plain, target="price").train.inputs)
    assert torch.equal(of_csv.train.inputs, of_polars.train.inputs)
    assert of_csv.notes[0] == "left out, the rows' numbers: Unnamed: 0"


def test_tables_that_are_split_already_are_encoded_by_the_training_one(tmp_path):
    test = FRAME[:20].assign(city="Bergen")
    data = load({"train": FRAME[20:], "test": test}, target="price", splits=(0.5, 0.5, 0))
    assert [len(split) for split in data.splits.values()] == [50, 50, 20]
    places = [i for i, name in enumerate(data.encoder.numbers) if name.startswith("city")]
    assert not data.test.inputs[:, places].any()
    assert "zeros for values that the training split lacks: city (Bergen)" in data.notes
    assert torch.equal(data.test.labels, torch.tensor(FRAME["price"][:20].to_numpy(), dtype=torch.float32))
    with pytest.raises(
        ModelspaceError, match=r"the test table and the train table differ in their columns \(age\)"
    ):
        load({"train": FRAME, "test": FRAME.drop(columns="age")}, target="price")


TARGETS = {
    "strings": ("city", ("Oslo", "Paris", "Rome"), torch.int64),
    "categories": ("size", ("small", "large"), torch.int64),
    "booleans": ("sold", ("False", "True"), torch.int64),
    "few whole numbers": ("shop", tuple(map(str, range(15))), torch.int64),
    "many whole numbers": ("rooms", None, torch.float32),
    "quantities": ("price", None, torch.float32),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_targets(kind):
    column, names, dtype = TARGETS[kind]
    data = load(FRAME, target=column)
    assert data.train.labels.dtype == dtype
    assert data.class_names == names
    assert data.classes == (None if names is None else len(names))
    assert column not in data.encoder.numbers


def test_several_targets_and_none():
    assert load(FRAME, target=["price", "sold"]).train.labels.shape[1:] == (2,)
    labels = load(FRAME, target=["price", "city"]).train.labels
    assert {name: part.dtype for name, part in labels.items()} == {
        "price": torch.float32,
        "city": torch.int64,
    }
    assert load(FRAME, target=[]).train.labels is None
    assert load(FRAME, target=["price"]).train.labels.shape[1:] == ()


def test_what_is_missing_is_refused_or_said():
    frame = FRAME.copy()
    frame.loc[3:5, "age"], frame.loc[7, "city"] = np.nan, None
    frame["sold"] = frame["sold"].astype(object).where(frame.index != 9, None)
    message = r"missing in 'age' \(3 of 120\), 'sold' \(1 of 120\), 'city' \(1 of 120\): .*missing='mean'"
    with pytest.raises(ModelspaceError, match=message):
        load(frame, target="price")
    data = load(frame, target="price", missing="mean")
    names = data.encoder.numbers
    assert names[:2] == ("age", "age is missing")
    inputs = torch.cat([split.inputs for split in data.splits.values()])
    gaps = inputs[:, names.index("age is missing")].bool()
    assert int(gaps.sum()) == 3
    assert (inputs[gaps, 0] == 0).all(), "the mean"
    gaps = inputs[:, names.index("city is missing")].bool()
    assert not inputs[gaps][:, [i for i, name in enumerate(names) if name.startswith("city=")]].any()
    with pytest.raises(
        ModelspaceError, match=r"values are missing in 'age' \(3 of 120\): leave these rows out$"
    ):
        load(frame, target="age", missing="mean")
    with pytest.raises(ModelspaceError, match="column 'rooms' has missing values, and had none"):
        data.encoder(frame.assign(rooms=np.nan))


def test_without_standardising_numbers_stay():
    data = load(FRAME, target="price", standardise=False)
    assert torch.equal(
        data.train.inputs[:, 1], torch.tensor(FRAME["rooms"].to_numpy()[rows_of(data)["train"]]).float()
    )
    constant = load(FRAME.assign(one=0.1), target="price")
    assert (constant.train.inputs[:, constant.encoder.numbers.index("one")].abs() < 1e-6).all()
    assert "constant in the training split: one" in constant.notes


DAYS = pd.date_range("2024-01-01", periods=N)
REFUSED = {
    "dates": ({"when": DAYS}, r"column 'when' holds dates or times: .* frame\['when'\]\.dt\.month"),
    "dates as text": ({"when": DAYS.astype(str)}, "column 'when' holds dates or times"),
    "durations": ({"when": DAYS - DAYS[0]}, "column 'when' holds dates or times"),
    "many strings": (
        {"zip": [f"z{i}" for i in range(N)]},
        "column 'zip' has 120 different values, .* up to 32",
    ),
    "lists": ({"tags": [[1]] * N}, r"column 'tags' holds mixed values \(\[1\]\)"),
    "complex": ({"wave": 1j}, "column 'wave' holds complex values"),
    "infinite": ({"x": np.inf}, "column 'x' holds infinite numbers"),
    "empty": ({"x": None}, "column 'x' is empty"),
    "two at once": ({"x": np.inf, "when": DAYS}, "infinite numbers.*; column 'when' holds dates"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_columns_that_are_refused(kind):
    more, message = REFUSED[kind]
    with pytest.raises(ModelspaceError, match=message):
        load(FRAME.assign(**more), target="price")


@pytest.mark.parametrize(
    ("source", "how", "message"),
    [
        (
            FRAME,
            {},
            r"is a table: give target=, .* \(its columns: age, rooms, sold, city, size, price, shop\)",
        ),
        (FRAME, {"target": "prise"}, "unknown column 'prise': did you mean 'price'"),
        (FRAME, {"target": "price", "group": "shp"}, "unknown column 'shp': did you mean 'shop'"),
        (FRAME, {"target": "price", "missing": "median"}, "unknown way to fill in what is missing 'median'"),
        (FRAME[["price"]], {"target": "price"}, "has no columns beside price"),
        (FRAME[:0], {"target": "price"}, "has no samples"),
        (pd.concat([FRAME, FRAME], axis=1), {"target": "price"}, "more than one column 'age'"),
        (FRAME["price"], {}, r"which doesn't say what is input and what label: .* target="),
        ("digits", {"target": "price"}, "target= and missing= are of a table .*; received str 'digits'"),
        (
            (torch.zeros(4), torch.zeros(4)),
            {"group": "shop"},
            "group='shop' is a column of a table; of a tuple",
        ),
        ("none.csv", {"target": "price"}, "no file 'none.csv'"),
    ],
)
def test_what_does_not_fit_a_table_is_said(source, how, message):
    with pytest.raises(ModelspaceError, match=message):
        load(source, **how)


def test_files_that_are_no_tables(tmp_path, monkeypatch):
    for name, text in (("a.csv", ""), ("b.parquet", "PAR1 no"), ("c.csv", 'a,b\n1,2,3\n4,"5')):
        (tmp_path / name).write_text(text)
        with pytest.raises(ModelspaceError, match=rf"{name}' can't be read as a table"):
            load(tmp_path / name, target="a")
    known = builtins.__import__

    def without(name, *rest, **more):
        if name.startswith(("pyarrow", "fastparquet")):
            raise ImportError(f"No module named '{name}'")
        return known(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(pd, "read_parquet", lambda path: __import__("pyarrow"))
    with pytest.raises(ModelspaceError, match=r"pip install 'torch-modelspace\[parquet\]'"):
        load(tmp_path / "b.parquet", target="a")


def test_a_table_is_fitted_as_it_is():
    data = load(FRAME, target="city")
    members = ms.ModelSpace(lambda: torch.nn.Linear(7, 3)).sample(seeds=2)
    run = ms.fit(members, data, epochs=2)
    assert "validation_accuracy" in run.history
