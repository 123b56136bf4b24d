"""What MLflow's own client reads back."""

import pandas as pd
import pytest

from modelspace import ModelspaceError
from modelspace.export import _mlflow, export

tracking = pytest.importorskip("mlflow.tracking")
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:DeprecationWarning",
)


@pytest.fixture(params=["folder", "sqlite"])
def place(request, tmp_path, monkeypatch):
    monkeypatch.setenv(
        "MLFLOW_ALLOW_FILE_STORE", "true"
    )  # for the test's client; the exporter sees to its own
    if request.param == "sqlite":
        for name in ("sqlalchemy", "alembic", "sqlparse"):
            pytest.importorskip(name)
        return f"sqlite:///{tmp_path}/runs.db"
    return str(tmp_path / "mlruns")


def test_a_setting_is_one_of_mlflow_s_runs(run, expected, place, tmp_path, monkeypatch):
    monkeypatch.setattr(_mlflow, "_BATCH", 7)
    export(run, "mlflow", place, part="sweep")
    client = tracking.MlflowClient(tracking_uri=place)
    experiment = client.get_experiment_by_name(run.space.title)
    found = {
        r.info.run_name.removeprefix("sweep "): r for r in client.search_runs([experiment.experiment_id])
    }
    assert set(found) == {"lr=0.01", "lr=0.03", "lr=1e+300"}
    for (name, key), values in expected.items():
        history = sorted(client.get_metric_history(found[name].info.run_id, key), key=lambda m: m.step)
        assert [m.step for m in history] == list(range(1, len(values) + 1))
        assert [m.value for m in history] == pytest.approx(values)
    for name, one in found.items():
        rows = run.table[run.table["lr"] == float(name.removeprefix("lr="))]
        assert one.info.status == "FINISHED"
        assert one.data.params["lr"] == str(rows["lr"].iloc[0])
        assert one.data.params["epochs"] == "3"
        assert (one.data.params["members"], one.data.tags["part"]) == ("4", "sweep")
        path = client.download_artifacts(one.info.run_id, "members.csv", str(tmp_path))
        assert pd.read_csv(path)["member"].tolist() == rows.index.tolist()
    final = found["lr=0.01"].data.metrics
    scores = run.table.loc[run.table["lr"] == 0.01, "validation_loss"]
    assert final["final/validation_loss/q1"] == pytest.approx(scores.quantile(0.25))
    assert final["final/validation_loss/n"] == 4


def test_again_is_in_the_same_experiment(run, place):
    for _ in range(2):
        export(run.folder, "mlflow", place)
    client = tracking.MlflowClient(tracking_uri=place)
    experiment = client.get_experiment_by_name(run.space.title)
    assert len(client.search_runs([experiment.experiment_id])) == 6


def test_a_place_that_is_no_store_is_one_message(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ModelspaceError, match="MLflow's store"):
        export(run, "mlflow", tmp_path / "file")
    with pytest.raises(ModelspaceError, match="MLflow's store"):
        export(run, "mlflow", "nonsense://here")


def test_the_environment_is_as_it_was(run, tmp_path, monkeypatch):
    import os

    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    export(run, "mlflow", tmp_path / "mlruns")
    assert "MLFLOW_ALLOW_FILE_STORE" not in os.environ
