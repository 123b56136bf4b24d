"""What docs/moving.md says of skorch, beside skorch itself where it is installed."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import modelspace as ms


def test_points_and_probabilities_are_skorch_s():
    skorch = pytest.importorskip("skorch")
    data = ms.data.digits()
    x, y = data.train.inputs[:160].clone(), data.train.labels[:160].clone()

    class Net(nn.Sequential):
        def __init__(self, width=16):
            super().__init__(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

    torch.manual_seed(3)
    net = skorch.NeuralNetClassifier(
        Net,
        module__width=8,
        max_epochs=2,
        batch_size=32,
        optimizer=torch.optim.SGD,
        lr=0.1,
        optimizer__momentum=0.9,
        criterion=nn.CrossEntropyLoss,
        train_split=None,
        verbose=0,
    ).fit(x.numpy(), y.numpy())
    loader = DataLoader(TensorDataset(x, y), 32)
    population = ms.ModelSpace(Net, width=8).sample(seeds=[3], lr=[0.1], momentum=[0.9])
    run = ms.fit(population, ms.data.stream(loader, (x, y)), optimizer=torch.optim.SGD, epochs=2)
    own = net.module_.state_dict()
    for name, value in run.population.state_dict(0).items():
        torch.testing.assert_close(value, own[name], rtol=1e-4, atol=1e-5)
    probabilities = run.predict(data.test.inputs)[0].softmax(-1)
    expected = torch.from_numpy(net.predict_proba(data.test.inputs.numpy()))
    torch.testing.assert_close(probabilities, expected, rtol=1e-4, atol=1e-5)
