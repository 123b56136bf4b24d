"""Event files read back by TensorBoard's own reader."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from modelspace import ModelspaceError
from modelspace.export import export


def read(folder):
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def points(events, tag):
    return [(event.step, event.value) for event in events.Scalars(tag)]


@pytest.mark.parametrize("source", ["memory", "folder"])
def test_a_setting_is_one_of_tensorboard_s_runs(run, expected, source, tmp_path):
    export(run if source == "memory" else run.folder, "tensorboard", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"lr=0.01", "lr=0.03", "lr=1e+300"}
    for (name, tag), values in expected.items():
        events = read(tmp_path / name)
        if values:
            assert [s for s, _ in points(events, tag)] == list(range(1, len(values) + 1))
            assert [v for _, v in points(events, tag)] == pytest.approx(values, rel=1e-6)
        else:
            assert tag not in events.Tags()["scalars"]


def test_the_last_distribution_and_the_hyper_parameters(run, tmp_path):
    export(run, "tensorboard", tmp_path)
    events = read(tmp_path / "lr=0.03")
    scores = run.table.loc[run.table["lr"] == 0.03, "validation_accuracy"]
    assert points(events, "final/validation_accuracy/median") == [(3, pytest.approx(scores.median()))]
    assert points(events, "final/validation_accuracy/n") == [(3, 4)]
    content = events.SummaryMetadata(SESSION_START_INFO_TAG).plugin_data.content
    start = HParamsPluginData.FromString(content).session_start_info
    assert {name: value.number_value for name, value in start.hparams.items()} == {"lr": 0.03}
    assert points(read(tmp_path / "lr=1e+300"), "final/train_loss/n") == [(3, 0)]


def test_members_one_by_one_in_a_part(run, tmp_path):
    export(run, "tensorboard", tmp_path, members=True, part="sweep")
    folder = tmp_path / "sweep" / "lr=0.01"
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {f"seed={s}" for s in range(4)}
    row = run.members.index[(run.members["lr"] == 0.01) & (run.members["seed"] == 2)][0]
    found = points(read(folder / "seed=2"), "validation_loss")
    assert [step for step, _ in found] == [1, 2, 3]
    assert [value for _, value in found] == pytest.approx(run.history["validation_loss"][row], rel=1e-6)


def test_an_export_replaces_the_last_one_and_nothing_else(run, tmp_path):
    export(run, "tensorboard", tmp_path)
    (tmp_path / "lr=0.01" / "notes").write_text("mine")
    export(run, "tensorboard", tmp_path)
    assert len(points(read(tmp_path / "lr=0.01"), "train_loss/median")) == 3
    assert (tmp_path / "lr=0.01" / "notes").read_text() == "mine"


def test_a_file_is_no_place(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ModelspaceError, match="it is no folder"):
        export(run, "tensorboard", tmp_path / "file")
    with pytest.raises(ModelspaceError, match="can't write event files"):
        export(run, "tensorboard", tmp_path / "file" / "below")
