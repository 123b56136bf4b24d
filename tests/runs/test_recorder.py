"""Runs in folders: continued, extended, damaged, locked, full."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
import torch
from support import plans
from support.cases import named
from support.runs import altered, assert_same, held
from support.sampled import sampled

import modelspace as ms
from modelspace.runs.catalogue import VERSION

CASE = named("residual BatchNorm")
CHOICES = {"lowering": "vmap", "shard": 4, "compile": False, "threads": 1, "workers": 1}


def members(seeds=10, **columns):
    return CASE.space(torch.float32).sample(seeds=seeds, **{"lr": [0.01], **columns})


def fit(population, out=None, **settings):
    settings = {"epochs": 3, "batch_size": 8, "optimizer": ms.Adam(), "checkpoint_seconds": 0.0, **settings}
    return plans.fit(population, CASE.data(), out=out, **{**CHOICES, **settings})


def trained(monkeypatch):
    """The shards that are trained from here on, by their members' rows."""
    trained = []
    train = plans.FIT.train

    def noting(task, program, rows, *rest):
        trained.append(list(rows))
        return train(task, program, rows, *rest)

    monkeypatch.setattr(plans.FIT, "train", noting)
    return trained


# The first two members of each shard in each other's place.
SWAP = (
    "UPDATE shards SET keys = CAST(substr(keys, 17, 16) || substr(keys, 1, 16) || substr(keys, 33) AS BLOB)"
)


class StopError(Exception):
    """Nothing catches it."""


def cut_short(monkeypatch, updates, population, folder, **settings):
    """A fit that ends, as suddenly as by a power cut, after so many updates."""
    left = iter(range(updates))
    make = plans.TRAIN.updates

    def stopping(*arguments):
        for update in make(*arguments):
            yield update
            if next(left, None) is None:
                raise StopError

    with monkeypatch.context() as patched:
        patched.setattr(plans.TRAIN, "updates", stopping)
        with pytest.raises(StopError):
            fit(population, folder, **settings)


@pytest.mark.parametrize("keep", ["all", "scores", 2])
def test_a_run_in_a_folder_is_the_run_and_opens_as_it_was_returned(tmp_path, keep, monkeypatch):
    population = members(lr=[0.01, 0.02])
    plain = fit(population, keep=keep)
    run = fit(population, tmp_path, keep=keep)
    assert_same(run, plain)
    assert_same(ms.open_run(tmp_path, CASE.space(torch.float32)), plain)
    again = trained(monkeypatch)
    assert_same(fit(population, tmp_path, keep=keep), plain)
    assert again == []


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": ms.SGD(momentum=0.9), "schedule": "cosine"},
        {"precision": "16-mixed"},
        {"early_stopping": ms.EarlyStopping(1, restore_best=True)},
        {"accumulate": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("updates", sampled([3, 7], 2))
def test_cut_short_anywhere_and_continued_it_is_the_uninterrupted_run(
    tmp_path, settings, updates, monkeypatch
):
    population = members(lr=[0.01, 1e300])
    whole = fit(population, **settings)
    cut_short(monkeypatch, updates, population, tmp_path, **settings)
    run = fit(population, tmp_path, **settings)
    assert_same(run, whole)
    assert not list((tmp_path / "shards").glob("*.part.*"))


def test_a_shard_goes_on_where_it_was_put_down(tmp_path, monkeypatch):
    population = members(4)
    cut_short(monkeypatch, 3, population, tmp_path)
    made = []
    make = plans.TRAIN.updates
    monkeypatch.setattr(
        plans.TRAIN, "updates", lambda *arguments: (made.append(1) or each for each in make(*arguments))
    )
    run = fit(population, tmp_path)
    assert len(made) == run.steps[0] - 4


def test_more_members_train_only_what_is_missing(tmp_path, monkeypatch):
    fit(members(6), tmp_path)
    rows = trained(monkeypatch)
    run = fit(members(8, lr=[0.01, 0.02]), tmp_path)
    table = run.table
    new = {tuple(table.loc[row, ["seed", "lr"]]) for shard in rows for row in shard}
    old = {(seed, 0.01) for seed in range(6)}
    assert new == {(seed, lr) for seed in range(8) for lr in (0.01, 0.02)} - old
    assert_same(run, fit(members(8, lr=[0.01, 0.02])))


def test_more_epochs_go_on_from_the_last(tmp_path, monkeypatch):
    fit(members(), tmp_path)
    rows = trained(monkeypatch)
    made = []
    make = plans.TRAIN.updates
    monkeypatch.setattr(
        plans.TRAIN, "updates", lambda *arguments: (made.append(1) or each for each in make(*arguments))
    )
    run = fit(members(), tmp_path, epochs=5)
    assert sorted(row for shard in rows for row in shard) == list(range(10))
    assert len(made) == len(rows) * run.steps[0] * 2 // 5
    assert len(list((tmp_path / "shards").iterdir())) == len(rows)  # what they went on from is gone
    monkeypatch.undo()
    assert_same(run, fit(members(), epochs=5))


def test_where_the_schedule_looks_ahead_more_epochs_start_anew(tmp_path):
    fit(members(), tmp_path, schedule="cosine")
    run = fit(members(), tmp_path, schedule="cosine", epochs=5)
    assert_same(run, fit(members(), schedule="cosine", epochs=5))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": 4}, "batch_size is 8 there and 4 here"),
        ({"optimizer": ms.SGD()}, r"optimizer is Adam\(.* there and SGD\("),
        ({"epochs": 2}, "it has 3 epochs, and 2 are asked for"),
        ({"keep": "scores"}, "keep is all there and scores here"),
        ({"loss": lambda outputs, labels: outputs.square().mean()}, "code of loss and metrics"),
    ],
    ids=["batch", "optimizer", "epochs", "keep", "loss"],
)
def test_another_run_is_refused_with_the_difference_and_fresh_removes_it(tmp_path, changed, message):
    fit(members(4), tmp_path)
    with pytest.raises(ms.ModelspaceError, match=message):
        fit(members(4), tmp_path, **changed)
    assert_same(fit(members(4), tmp_path, fresh=True, **changed), fit(members(4), **changed))


def test_other_data_is_another_run(tmp_path):
    fit(members(4), tmp_path)
    data = CASE.data()
    other = ms.data.of_splits(
        **{name: (split.inputs + 1, split.labels) for name, split in data.splits.items()}, name=data.name
    )
    with pytest.raises(ms.ModelspaceError, match=r"samples is .* there and .* here"):
        plans.fit(members(4), other, out=tmp_path, epochs=3, batch_size=8, **CHOICES)


def test_members_whose_points_are_not_their_seeds_are_others(tmp_path, monkeypatch):
    population = members(4)
    fit(population, tmp_path)
    moved = population.copy()
    moved.points[2] += 0.5
    rows = trained(monkeypatch)
    assert_same(fit(moved, tmp_path), fit(moved))
    assert rows == [[0, 1, 2, 3]] * 2


DAMAGES = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "a flipped bit": lambda path: path.write_bytes(
        path.read_bytes()[:-50] + bytes([path.read_bytes()[-50] ^ 1]) + path.read_bytes()[-49:]
    ),
    "another file": lambda path: path.write_text("hello"),
    "removed": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_shard_is_said_and_trained_again(tmp_path, damage, monkeypatch, capsys):
    whole = fit(members(), tmp_path)
    (path, *_) = sorted((tmp_path / "shards").iterdir())
    damage(path)
    rows = trained(monkeypatch)
    assert_same(fit(members(), tmp_path), whole)
    assert len(rows) == 1
    assert f"shard {path.stem} is damaged" in capsys.readouterr().err


def test_a_file_that_stands_but_is_not_in_the_catalogue_is_adopted(tmp_path, monkeypatch):
    whole = fit(members(4), tmp_path)
    altered(tmp_path, "DELETE FROM shards")
    rows = trained(monkeypatch)
    assert_same(fit(members(4), tmp_path), whole)
    assert rows == []


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    fit(members(4), tmp_path)
    left = tmp_path / "shards" / ".abc.safetensors.x1y2"
    left.write_text("half")
    fit(members(4), tmp_path)
    assert not left.exists()


def test_a_newer_format_is_refused(tmp_path):
    fit(members(4), tmp_path)
    altered(tmp_path, f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(ms.ModelspaceError, match=rf"newer modelspace \(format {VERSION + 1}; .*\): upgrade"):
        fit(members(4), tmp_path)
    with pytest.raises(ms.ModelspaceError, match="newer modelspace"):
        ms.open_run(tmp_path)


def test_a_catalogue_that_is_none_is_one_message(tmp_path):
    (tmp_path / "run.sqlite").write_text("hello " * 1000)
    with pytest.raises(ms.ModelspaceError, match=r"damaged .*, and no shard is there .*fresh=True"):
        fit(members(4), tmp_path)
    assert_same(fit(members(4), tmp_path, fresh=True), fit(members(4)))
    assert (tmp_path / "run.damaged.sqlite").read_text() == "hello " * 1000


def test_no_run_is_one_message(tmp_path):
    with pytest.raises(ms.ModelspaceError, match=r"holds no run: it has no run\.sqlite"):
        ms.open_run(tmp_path)


def test_a_second_process_is_refused(tmp_path):
    with held(tmp_path), pytest.raises(ms.ModelspaceError, match="another process is at the run"):
        fit(members(4), tmp_path)
    assert_same(fit(members(4), tmp_path), fit(members(4)))


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_folder_is_one_message(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(ms.ModelspaceError, match="can't write"):
        fit(members(4), tmp_path / "run")


def test_a_place_that_is_no_folder_is_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ms.ModelspaceError, match="can't write"):
        fit(members(4), tmp_path / "file" / "run")


FULL = """
import resource, signal, sys
import torch
sys.path.insert(0, {tests!r})
from runs.test_recorder import fit, members
import modelspace as ms
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, -1))
try:
    fit(members(), {folder!r})
except ms.ModelspaceError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
@pytest.mark.parametrize(
    "size", [20_000, *(pytest.param(size, marks=pytest.mark.slow) for size in (8_000, 40_000))]
)
def test_a_full_disk_is_one_message_and_loses_nothing(tmp_path, size):
    tests = os.path.dirname(os.path.dirname(__file__))
    code = FULL.format(tests=tests, folder=str(tmp_path), size=size)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=tests,
        env={**os.environ, "MODELSPACE_CACHE": ""},
    )
    assert done.returncode == 0, done.stderr
    assert "what was finished is kept" in done.stdout or "can't write" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert_same(fit(members(), tmp_path), fit(members()))


def test_without_room_for_all_points_the_best_are_kept(tmp_path):
    population = members(9, lr=[0.003, 0.01, 1e300])
    everyone = fit(population)
    run = fit(population, tmp_path, keep=2)
    assert not (everyone.status[everyone.table["lr"] == 1e300] == "finished").any()
    best = [
        k
        for lr in (0.003, 0.01)
        for k in everyone.table[everyone.table["lr"] == lr].nlargest(2, "validation_accuracy").index
    ]
    assert len(run.kept) == 4
    scores = everyone.table["validation_accuracy"]
    assert sorted(scores[run.kept]) == sorted(scores[best])
    assert torch.equal(run.population.points, everyone.population.points[run.kept])
    assert sum(path.stat().st_size for path in (tmp_path / "shards").iterdir()) < 2 * 9 * 2 * 4 * CASE.space(
        torch.float32
    ).dimension + 20_000 * len(everyone.table)


def test_several_processes_write_one_run(tmp_path, monkeypatch):
    population = members(10, lr=[0.01, 1e300])
    for keep in ("all", 2, "scores"):
        one = fit(population, keep=keep)
        run = fit(population, tmp_path / str(keep), keep=keep, workers=2)
        assert_same(run, one)
        assert_same(ms.open_run(tmp_path / str(keep), CASE.space(torch.float32)), one)


def test_ctrl_c_then_the_same_call(tmp_path, monkeypatch):
    whole = fit(members())
    make = plans.TRAIN.updates
    calls = iter(range(4))

    def interrupted(*arguments):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return make(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(plans.TRAIN, "updates", interrupted)
        run = fit(members(), tmp_path)
    assert run.interrupted
    assert (run.status == "unfinished").sum() == 6
    opened = ms.open_run(tmp_path, CASE.space(torch.float32))
    assert opened.interrupted
    assert opened.kept.tolist() == [0, 1, 2, 3]
    assert_same(fit(members(), tmp_path), whole)


def test_an_architecture_that_has_changed_is_said(tmp_path):
    fit(members(4), tmp_path)
    with pytest.raises(ms.ModelspaceError, match="is another now"):
        ms.open_run(tmp_path, named("MLP dropout").space(torch.float32))
    shutil.rmtree(tmp_path)


def named_shard(folder, name):
    """A catalogue, its seal too, in which the one shard is called so."""
    altered(folder, f"UPDATE shards SET name = '{name}'")


@pytest.mark.parametrize("name", ["{outside}", "../../outside", "../outside", "outside", "", "a/b"])
def test_a_shard_s_name_is_no_path(tmp_path, name, capsys):
    outside, folder = tmp_path / "outside.safetensors", tmp_path / "run"
    whole = fit(members(4), folder)
    for place in (outside, folder / "outside.safetensors", folder / "shards" / "outside.safetensors"):
        place.write_text("somebody's")
    named_shard(folder, name.format(outside=tmp_path / "outside"))
    with pytest.raises(ms.ModelspaceError, match="damaged"):
        ms.open_run(folder, CASE.space(torch.float32))
    assert_same(fit(members(4), folder), whole)
    assert "made anew from 1 finished shards" in capsys.readouterr().err
    for place in (outside, folder / "outside.safetensors", folder / "shards" / "outside.safetensors"):
        assert place.read_text() == "somebody's"


def test_fresh_removes_what_a_run_wrote_and_nothing_else(tmp_path):
    fit(members(4), tmp_path)
    old = next((tmp_path / "shards").iterdir())
    keep = [
        tmp_path / "shards" / "model.safetensors",
        tmp_path / "shards" / "notes.txt",
        tmp_path / "my.sqlite",
    ]
    for path in keep:
        path.write_text("somebody's")
    link = tmp_path / "shards" / f"{'a' * 24}.safetensors"
    link.symlink_to(tmp_path / "my.sqlite")
    fit(members(2), tmp_path, fresh=True, epochs=1)
    assert not old.exists()
    assert all(path.read_text() == "somebody's" for path in keep)
    assert link.is_symlink()


def test_fresh_goes_through_no_link(tmp_path):
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    fit(members(4), folder)
    (folder / "shards").rename(elsewhere)
    (folder / "shards").symlink_to(elsewhere)
    before = sorted(elsewhere.iterdir())
    with pytest.raises(ms.ModelspaceError, match="is a link, through which nothing is removed"):
        fit(members(4), folder, fresh=True)
    assert sorted(elsewhere.iterdir()) == before
    assert_same(fit(members(4), folder), fit(members(4)))


@pytest.mark.parametrize(
    "wrong", [{"workers": 2, "shard": 10**12}, {"lowering": "vmap", "runner": "x"}], ids=str
)
def test_fresh_removes_nothing_before_everything_is_checked(tmp_path, wrong, monkeypatch):
    whole = fit(members(4), tmp_path)
    if "shard" in wrong:
        monkeypatch.setattr(plans.FIT, "free_bytes", lambda _: 200_000)
    with pytest.raises(ms.ModelspaceError, match=r"this run needs|unknown runner"):
        fit(members(4), tmp_path, fresh=True, **wrong)
    monkeypatch.undo()
    assert_same(ms.open_run(tmp_path, CASE.space(torch.float32)), whole)


@pytest.mark.parametrize("name", ["run.sqlite", "run.lock"])
def test_nothing_is_written_through_a_link(tmp_path, name):
    folder, thesis = tmp_path / "run", tmp_path / "thesis.tex"
    thesis.write_text("somebody's")
    folder.mkdir()
    (folder / name).symlink_to(thesis)
    for fresh in (False, True):
        with pytest.raises(ms.ModelspaceError, match=r"is a link|is not the lock"):
            fit(members(4), folder, fresh=fresh)
    assert thesis.read_text() == "somebody's"


@pytest.mark.parametrize("damage", ["removed", "emptied", "flipped", "swapped", "another's"])
def test_a_damaged_catalogue_is_made_anew_from_the_shards(tmp_path, damage, monkeypatch, capsys):
    fit(members(6), tmp_path)
    whole = fit(members(10), tmp_path)  # 4, 2 and 4 members: not the shards that ten would be cut into
    path = tmp_path / "run.sqlite"
    if damage == "removed":
        path.unlink()
    elif damage == "emptied":
        path.write_bytes(b"")
    elif damage == "flipped":
        path.write_bytes(b"\x00" + path.read_bytes()[1:])
    elif damage == "swapped":
        altered(tmp_path, SWAP, sealed=False)
    else:
        path.unlink()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE songs (title TEXT)")
    before = path.read_bytes() if path.exists() else b""
    rows = trained(monkeypatch)
    capsys.readouterr()
    assert_same(fit(members(10), tmp_path), whole)
    assert rows == []
    assert capsys.readouterr().err.count("made anew from 3 finished shards") == 1
    assert_same(ms.open_run(tmp_path, CASE.space(torch.float32)), whole)
    if damage in ("flipped", "swapped", "another's"):
        assert (tmp_path / "run.damaged.sqlite").read_bytes() == before


def test_keys_swapped_under_a_fitting_seal_exchange_no_points(tmp_path, capsys):
    whole = fit(members(4), tmp_path)
    altered(tmp_path, SWAP)
    assert_same(fit(members(4), tmp_path), whole)
    assert "it holds other members" in capsys.readouterr().err


def test_shards_in_each_other_s_place_exchange_no_points(tmp_path, capsys):
    whole = fit(members(8), tmp_path)
    a, b = sorted((tmp_path / "shards").iterdir())
    content = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(content)
    assert_same(fit(members(8), tmp_path), whole)
    assert capsys.readouterr().err.count("it is the file of") == 2


ENDLESS = "WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n) SELECT"
STRANGE = {
    "a view": ["DROP TABLE run", f"CREATE VIEW run AS {ENDLESS} k AS number, '' AS about, '' AS seal FROM n"],
    "a trigger": ["CREATE TRIGGER t AFTER INSERT ON run BEGIN DELETE FROM members; END"],
    "another column": ["ALTER TABLE run ADD COLUMN more TEXT"],
    "another index": ["CREATE INDEX more ON run (about)"],
}


@pytest.mark.parametrize("statements", STRANGE.values(), ids=STRANGE.keys())
def test_only_plain_tables_of_the_known_kind_are_read(tmp_path, statements):
    whole = fit(members(4), tmp_path)
    altered(tmp_path, *statements, sealed=False)
    with pytest.raises(ms.ModelspaceError, match="its tables are not those of a run"):
        ms.open_run(tmp_path, CASE.space(torch.float32))
    assert_same(fit(members(4), tmp_path), whole)


def test_another_run_s_shards_are_not_taken_for_this_one_s(tmp_path):
    fit(members(4), tmp_path)
    (tmp_path / "run.sqlite").unlink()
    with pytest.raises(ms.ModelspaceError, match="batch_size is 8 there and 4 here"):
        fit(members(4), tmp_path, batch_size=4)
