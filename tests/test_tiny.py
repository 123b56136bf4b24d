"""Five seconds that say whether the heart still beats; run it on every save (``make tiny``)."""

import torch
from support.cases import BATCH, SAMPLES, named
from support.plain import relative_error, trained

import modelspace as ms


def test_two_seeds_by_two_learning_rates_equal_the_loop():
    case = named("DummyNet")
    data = case.data()
    population = case.space().sample(seeds=2, lr=[1e-3, 1e-2])
    run = ms.fit(population, data, optimizer="adam", epochs=1, batch_size=BATCH)
    points, _, losses = trained(
        population, data, "adam", steps=SAMPLES // BATCH, batch_size=BATCH, loss="cross_entropy"
    )
    assert run.population.space.dimension == 2512
    assert (run.status == "finished").all()
    assert relative_error(run.population.points, points) <= 1e-4
    assert torch.allclose(torch.from_numpy(run.history["train_loss"][:, 0]), losses.mean(1), rtol=1e-4)
