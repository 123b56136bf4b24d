"""Augmented pictures of MNIST's size: ``python -m benchmarks.pictures``; ``--quick`` takes a minute.

Scikit-learn's 1,797 digits, made 28×28, shifted by up to 3 pixels and mirrored at random at each look; a small
convolutional net, Adam. Three sides, each scored on the same test split:

- ``transform=``: one ``modelspace.fit``, planning and scores included; a batch is augmented at once for all members;
- ``data.stream``: the same fit on the ``DataLoader`` of the plain loop, which is read once for each shard;
- the plain loop: a ``DataLoader`` that augments sample by sample, one network after the other; measured on a few,
  and *extrapolated* to all.
"""

import argparse
import os
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import modelspace as ms
from benchmarks import plain

SIDE, SHIFT, BATCH, LR = 28, 3, 32, 1e-3


def net() -> nn.Module:
    body = nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU()
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(16 * 6 * 6, 10))


def shifted(x: Tensor) -> Tensor:
    """Shift and mirror the pictures of a batch, each by itself."""
    down, right = torch.randint(2 * SHIFT + 1, (2, len(x), 1)) + torch.arange(SIDE)
    right = torch.where(torch.rand(len(x), 1) < 0.5, right, right.flip(1))
    which, wide = torch.arange(len(x))[:, None, None], F.pad(x[:, 0], [SHIFT] * 4)
    return wide[which, down[:, :, None], right[:, None]][:, None]


class Shifted(Dataset):
    """The same, picture by picture."""

    def __init__(self, x: Tensor, y: Tensor):
        self.x, self.y = F.pad(x, [SHIFT] * 4), y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        down, right = torch.randint(2 * SHIFT + 1, (2,)).tolist()
        picture = self.x[i, :, down : down + SIDE, right : right + SIDE]
        return picture.flip(2) if torch.rand(()) < 0.5 else picture, self.y[i]


def accuracy(model: nn.Module, held: Any) -> float:
    with torch.no_grad():
        return (model(held.inputs).argmax(1) == held.labels).double().mean().item()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="--members 16 --epochs 4 --loops 2")
    for name, value in (("members", 64), ("epochs", 20), ("loops", 4)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    members, epochs, loops = (16, 4, 2) if given.quick else (given.members, given.epochs, given.loops)
    print(
        f"{members} networks, {epochs} epochs of augmented {SIDE}×{SIDE} digits; load {os.getloadavg()[0]:.1f}"
    )
    splits = ms.data.digits().splits.values()
    parts = [(F.interpolate(split.inputs, SIDE, mode="bilinear"), split.labels) for split in splits]
    data = ms.data.of_splits(*parts, name="digits 28x28")
    loader = DataLoader(Shifted(*parts[0]), batch_size=BATCH, shuffle=True, drop_last=True)
    streamed = ms.data.stream(loader, data.validation, data.test)
    space, seconds, scores = ms.ModelSpace(net, input_shape=(1, SIDE, SIDE)), {}, {}
    population = space.sample(seeds=members, lr=[LR])
    sides = {"transform=": (data, {"transform": shifted}), "data.stream": (streamed, {})}
    for name, (source, settings) in sides.items():
        began = time.perf_counter()
        run = ms.fit(population, source, epochs=epochs, batch_size=BATCH, **settings)
        seconds[name] = time.perf_counter() - began
        scores[name] = ms.evaluate(run.population, data, ["accuracy"])["accuracy"]
        print(f"  {name}: {run.plan}")
    nets, began = [space.draw(k) for k in range(loops)], time.perf_counter()
    for model in nets:
        optimizer = torch.optim.Adam(model.parameters(), lr=LR)
        for _ in range(epochs):
            plain.train(model, optimizer, loader)
            accuracy(model, data.validation)
    name = f"DataLoader loop ({loops}, extrapolated)"
    seconds[name] = (time.perf_counter() - began) / len(nets) * members
    scores[name] = np.array([accuracy(model, data.test) for model in nets])
    for side, taken in seconds.items():
        found = f"test accuracy {scores[side].mean():.3f} ± {scores[side].std():.3f}"
        print(f"  {side:32}{taken:9.1f} s{seconds[name] / taken:8.1f} × the loop   {found}")


if __name__ == "__main__":
    main()
