"""What an offline run of wandb's holds: its file of records is LevelDB's log of protocol buffers."""

import json
import struct

import pytest

from modelspace import ModelspaceError
from modelspace.export import export

wandb = pytest.importorskip("wandb")
pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")

BLOCK, HEADER = 32768, 7


def records(path):
    """The records of a ``.wandb`` file: blocks of 32 KiB, each piece with checksum, length and kind before it."""
    from wandb.proto import wandb_internal_pb2

    content, place, whole = path.read_bytes(), HEADER, b""
    while place + HEADER <= len(content):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + HEADER])
        whole += content[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (1, 4):  # full, or last
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def read(folder):
    """Of each run below: its name, and its first record, history and summary."""
    found = {}
    for path in folder.glob("wandb/offline-run-*/*.wandb"):
        history, summary, artifacts, first = [], {}, [], None
        for record in records(path):
            if record.HasField("run") and first is None:
                first = record.run
            for item in record.history.item:
                history.append(
                    (record.history.step.num, "/".join(item.nested_key) or item.key, item.value_json)
                )
            summary |= {
                "/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.summary.update
            }
            if record.HasField("artifact"):
                artifacts.append(record.artifact)
            if record.request.HasField("log_artifact"):
                artifacts.append(record.request.log_artifact.artifact)
        found[first.display_name] = (first, history, summary, artifacts)
    return found


@pytest.fixture
def offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_ARTIFACT_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    yield tmp_path
    wandb.teardown()


def test_a_setting_is_one_of_wandb_s_runs(run, expected, offline, capfd):
    export(run, "wandb", "team/digits", part="fresh")
    found = {name.removeprefix("fresh "): rest for name, rest in read(offline).items()}
    assert set(found) == {"lr=0.01", "lr=0.03", "lr=1e+300"}
    for (name, key), values in expected.items():
        history = [(step, json.loads(value)) for step, k, value in found[name][1] if k == key]
        assert [step for step, _ in history] == list(range(1, len(values) + 1))
        assert [value for _, value in history] == pytest.approx(values)
    first, _, summary, artifacts = found["lr=0.01"]
    assert (first.entity, first.project, first.job_type) == ("team", "digits", "fresh")
    assert first.run_group == run.space.title
    config = {item.key: json.loads(item.value_json) for item in first.config.update}
    assert (config["lr"], config["epochs"], config["members"]) == (0.01, 3, 4)
    scores = run.table.loc[run.table["lr"] == 0.01, "validation_loss"]
    assert summary["final/validation_loss/median"] == pytest.approx(scores.median())
    assert [a.type for a in artifacts] == ["table"]
    assert [entry.path for entry in artifacts[0].manifest.contents] == ["members.csv"]
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("place", ["a/b/c", "/project", "team/", "a:b"])
def test_a_project_s_name(run, offline, place):
    with pytest.raises(ModelspaceError, match="names no project"):
        export(run, "wandb", place)


def test_nobody_logged_in_is_one_message_before_anything_is_written(run, offline, monkeypatch):
    def refuses():
        raise wandb.errors.UsageError("No API key configured.\nUse `wandb login`")

    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr(wandb, "login", refuses)
    with pytest.raises(ModelspaceError, match="No API key configured"):
        export(run, "wandb", "digits")
    assert not (offline / "wandb").exists()
