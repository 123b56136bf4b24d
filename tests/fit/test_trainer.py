"""The step by itself: as a fit, as torch's own loop, and what a loop of one's own needs of it."""

import pytest
import torch
import torch.nn.functional as F
from support.cases import named

import modelspace as ms
from modelspace.data import epoch_indices
from modelspace.errors import ModelspaceError

CASE = named("MLP tanh")
PLAN = {"lowering": "vmap", "compile": False, "shard": 3, "threads": 1, "workers": 1}


def test_a_loop_over_batches_is_a_fit():
    data, population = CASE.data(), CASE.space().sample(seeds=4, lr=[0.05, 0.1])
    settings = {"batch_size": 5, "plan": PLAN, "schedule": "cosine", "clip_norm": 1.0}
    run = ms.fit(population, data, epochs=3, **settings)
    first = data.train.take(slice(5))
    trainer = ms.Trainer(population, first, steps=12, **settings)
    losses = []
    for epoch in range(3):
        for rows in epoch_indices(20, 5, 0, epoch):
            losses.append(trainer.step(data.train.take(rows)))
    assert torch.equal(trainer.population.points, run.population.points)
    assert torch.stack(losses[:4]).double().mean(0).tolist() == pytest.approx(run.history["train_loss"][:, 0])
    scores = trainer.score(data.validation)
    assert scores["loss"].tolist() == pytest.approx(run.table["validation_loss"].tolist())
    assert scores["accuracy"].tolist() == run.table["validation_accuracy"].tolist()


def test_a_replaced_member_begins_there_with_a_fresh_optimizer():
    data, population = CASE.data(), CASE.space().sample(seeds=4, lr=[0.05])
    batch = data.train.take(slice(5))
    trainer = ms.Trainer(population, batch, plan=PLAN)
    for _ in range(3):
        trainer.step(batch)
    best = trainer.population.points[[2]].clone()
    others = trainer.population.points[:3].clone()
    trainer.replace([3], best, lr=[0.2])
    assert torch.equal(trainer.population.points[3], best[0])
    assert torch.equal(trainer.population.points[:3], others)
    trainer.step(batch)
    net = trainer.population.space.module(best[0])
    optimizer = torch.optim.Adam(net.parameters(), lr=0.2)
    # Its number of steps goes on: torch's begins at the fourth, with moments of zero.
    for parameter in net.parameters():
        zero = torch.zeros_like(parameter)
        optimizer.state[parameter] = {
            "step": torch.tensor(3.0), "exp_avg": zero, "exp_avg_sq": zero.clone()
        }  # fmt: skip
    F.cross_entropy(net(batch.inputs), batch.labels).backward()
    optimizer.step()
    expected = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
    assert torch.allclose(trainer.population.points[3], expected, atol=1e-6)


def test_an_objective_and_what_it_names():
    x = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))

    def reconstruct(model, batch, weight=1.0):
        size = model(batch).square().mean()
        return {"loss": weight * size, "size": size}

    population = CASE.space().sample(seeds=3, lr=[0.01], weight=[2.0])
    trainer = ms.Trainer(population, x, objective=reconstruct, plan=PLAN)
    loss = trainer.step(x)
    assert torch.allclose(loss, 2 * trainer.values["size"])
    assert set(trainer.score(x)) == {"loss", "size"}


def test_what_a_trainer_refuses():
    population, batch = CASE.space().sample(seeds=2, lr=[0.1]), CASE.data().train.take(slice(5))
    with pytest.raises(ModelspaceError, match="depends on the number of steps: give steps="):
        ms.Trainer(population, batch, schedule="cosine")
    trainer = ms.Trainer(population, batch, plan=PLAN)
    with pytest.raises(ModelspaceError, match="the batch's inputs are 3 float32, the example's 6 float32"):
        trainer.step((torch.zeros(5, 3), batch.labels))
    with pytest.raises(ModelspaceError, match=r"2 members of .* are 2×\d+ numbers; received \(1, 4\)"):
        trainer.replace([0, 1], torch.zeros(1, 4))
    with pytest.raises(ModelspaceError, match="column momentum: the population has seed, lr"):
        trainer.replace([0], population.points[[1]], momentum=[0.5])


def test_predictions_are_the_modules_outputs():
    data, population = CASE.data(), CASE.space().sample(seeds=5)
    predictions = ms.predict(population, data.test)
    for k, module in enumerate(population.modules()):
        with torch.no_grad():
            assert torch.allclose(predictions[k], module.eval()(data.test.inputs), atol=1e-6)
    run = ms.fit(population.with_columns(lr=0.01), data, epochs=1, plan=PLAN)
    ensemble = run.ensemble()
    with torch.no_grad():
        assert torch.allclose(run.predict(data.test.inputs), ensemble.outputs(data.test.inputs), atol=1e-6)
