import pickle

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from support.cases import CASES, DummyNet, FrozenBackbone, Residual, mlp
from torch import nn

from modelspace import ModelSpace, load, population_of, save
from modelspace.cli.results import write_folder
from modelspace.errors import ModelspaceError


@pytest.mark.parametrize("case", CASES, ids=str)
def test_saving_and_loading_is_exact(case, tmp_path):
    population = case.space().sample(
        seeds=[0, 2**53 + 1, 2**63 - 1], lr=[1e-3, 1 / 3, 0.1 + 0.2], betas=[(0.9, 0.999)]
    )
    save(population, tmp_path / "points.safetensors")
    found = load(tmp_path / "points.safetensors", case.space())
    assert torch.equal(found.points, population.points)
    assert set(found.buffers) == set(population.buffers)
    assert all(torch.equal(found.buffers[name], value) for name, value in population.buffers.items())
    assert found.table.to_dict("list") == population.table.to_dict("list")
    assert isinstance(found.table["betas"][0], tuple)


def test_the_file_opens_without_this_library(tmp_path):
    population = ModelSpace(Residual).sample(seeds=2)
    save(population, tmp_path / "points.safetensors")
    tensors = load_file(tmp_path / "points.safetensors")
    assert torch.equal(tensors["points"], population.points)
    assert torch.equal(tensors["buffers.norm1.running_var"], population.buffers["norm1.running_var"])
    with safe_open(tmp_path / "points.safetensors", framework="pt") as opened:
        assert opened.metadata()["space"] == "Residual"


def test_a_population_of_another_space_is_refused(tmp_path):
    path = tmp_path / "points.safetensors"
    save(ModelSpace(DummyNet).sample(seeds=1), path)
    with pytest.raises(
        ModelspaceError, match="holds points of DummyNet, whose layout is not that of Residual"
    ):
        load(path, ModelSpace(Residual))


def test_other_frozen_values_are_refused(tmp_path):
    path = tmp_path / "points.safetensors"
    save(ModelSpace(FrozenBackbone()).sample(seeds=1), path)
    other = ModelSpace(FrozenBackbone())
    with pytest.raises(ModelspaceError, match=r"made on another frozen backbone\.0\.weight"):
        load(path, other)


def test_what_is_no_population_is_refused(tmp_path):
    space = ModelSpace(DummyNet)
    with pytest.raises(ModelspaceError, match="no file"):
        load(tmp_path / "missing.safetensors", space)
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelspaceError, match="of a population, or damaged: its format is None"):
        load(tmp_path / "other.safetensors", space)
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(ModelspaceError, match="is not a safetensors file"):
        load(tmp_path / "text.safetensors", space)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


def test_nothing_is_ever_unpickled(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ModelspaceError, match=r"Pickled checkpoints are never opened.*save_file"):
        population_of([path], ModelSpace(DummyNet))
    with pytest.raises(ModelspaceError, match="not a safetensors file"):
        load(path, ModelSpace(DummyNet))


def test_a_population_of_networks_state_dicts_and_checkpoints(tmp_path):
    torch.manual_seed(1)
    nets = [mlp(), mlp(), mlp()]
    save_file(nets[2].state_dict(), tmp_path / "net.safetensors")
    population = population_of([nets[0], nets[1].state_dict(), tmp_path / "net.safetensors"])
    for row, net in zip(population.points, nets, strict=True):
        assert torch.equal(row, population.space.point(net))
    assert population.table["source"].tolist() == [
        "Sequential 0",
        f"{type(nets[1].state_dict()).__name__} 1",
        str(tmp_path / "net.safetensors"),
    ]


def test_buffers_come_along():
    net = Residual()
    net.norm1.running_mean += 3
    population = population_of([net, Residual()])
    assert torch.equal(population.module(0).norm1.running_mean, net.norm1.running_mean)


def test_members_must_fit():
    with pytest.raises(ModelspaceError, match="at least one member"):
        population_of([])
    with pytest.raises(ModelspaceError, match="give space="):
        population_of([mlp().state_dict()])
    with pytest.raises(ModelspaceError, match="not a point of Linear"):
        population_of([nn.Linear(2, 2), nn.Linear(2, 3)])


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "points.safetensors"
    population = ModelSpace(DummyNet).sample(seeds=1)
    save(population, path)
    before = path.read_bytes()

    def broken(tensors, place, metadata):
        place.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("modelspace.tensorfile.save_file", broken)
    with pytest.raises(ModelspaceError, match=r"can't write .*No space left"):
        save(population, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_full_disk_is_one_line_and_leaves_the_folder_as_it_was(tmp_path, monkeypatch):
    def full(tensors, place, metadata):
        place.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    population = ModelSpace(DummyNet).sample(seeds=1)
    write_folder(tmp_path, {"report": {}}, population.table, population)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr("modelspace.tensorfile.save_file", full)
    with pytest.raises(ModelspaceError, match=r"can.t write .*No space left on device"):
        write_folder(tmp_path, {"report": {"more": 1}}, population.table[:0], population)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
