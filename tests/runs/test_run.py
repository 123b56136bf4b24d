import numpy as np
from support import plans
from support.cases import named

from modelspace.runs.results import last_values

CASE = named("MLP tanh")


def run():
    population = CASE.space().sample(seeds=[3, 4], lr=[0.1, 1e300])
    return plans.fit(population, CASE.data(), optimizer="sgd", epochs=2, batch_size=5, lowering="loop")


def test_the_table_is_one_row_a_member():
    found = run()
    table = found.table
    assert table["seed"].tolist() == [3, 4, 3, 4]
    assert table["status"].tolist() == ["finished", "finished", "diverged", "diverged"]
    assert table["steps"].tolist() == [8, 8, 0, 0]
    assert np.array_equal(table["validation_loss"][:2], found.history["validation_loss"][:2, -1])
    assert table["validation_loss"][2:].isna().all()
    assert found.diverged["lr"].tolist() == [1e300, 1e300]


def test_the_summary_is_one_row_a_setting():
    found = run()
    table, scores = found.summary, found.table[found.monitor]
    assert table[["lr", "members", "diverged"]].to_numpy().tolist() == [[0.1, 2, 0], [1e300, 2, 2]]
    assert table["mean"][0] == np.mean(scores[:2])
    assert table["sd"][0] == np.std(scores[:2], ddof=1)
    assert table["train_loss"][0] == np.mean(found.table["train_loss"][:2])
    assert table.loc[1, ["mean", "median", "train_loss"]].isna().all()


def test_its_line_counts_every_status_and_says_the_plan():
    text = repr(run())
    assert "Run of 4 members of mlp on MLP tanh: 2 finished, 2 diverged" in text
    assert "loop, shards of" in text
    assert "<table" in run()._repr_html_()


def test_the_last_number_of_each_row():
    nan = np.nan
    values = np.array([[1, 2, 3], [1, nan, nan], [nan, 5, nan], [nan, nan, nan]])
    assert np.array_equal(last_values(values), [3, 1, 5, nan], equal_nan=True)
