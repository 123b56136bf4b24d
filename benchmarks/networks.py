"""The networks that are timed, as anybody would write them; they need PyTorch and nothing else."""

import importlib.util
import sys
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

_EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "dummynet.py"


def _example(name: str) -> type[nn.Module]:
    """A class of the example's file, which is no package."""
    specification = importlib.util.spec_from_file_location("benchmarks.example", _EXAMPLE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return getattr(module, name)


DummyNet = _example("DummyNet")


class MLP(nn.Module):
    """64-64-64-10."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        """f_p(x)."""
        return self.layers(x)


class CNN(nn.Module):
    """Two convolutions of 3×3, 16 and 32 filters, on one channel of 8×8; no padding, a linear head."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU())
        self.head = nn.Linear(32 * 4 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        """f_p(x)."""
        return self.head(self.features(x).flatten(1))


class Residual(nn.Module):
    """A stem, one residual block of 16 channels with BatchNorm, global average pooling, a linear head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.branch = nn.Sequential(
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, bias=False),
        )
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """f_p(x)."""
        x = self.stem(x)
        return self.head((x + self.branch(x)).mean((2, 3)))


class Encoder(nn.Module):
    """One transformer encoder layer, 32 wide, 4 heads, over the image's 8 rows; mean over the rows."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.layer = nn.TransformerEncoderLayer(32, 4, dim_feedforward=64, dropout=0.0, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """f_p(x)."""
        return self.head(self.layer(self.embed(x)).mean(1))


class Recurrent(nn.Module):
    """An LSTM 8→32 over the image's 8 rows; a linear head on its last output."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 32, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """f_p(x)."""
        return self.head(self.lstm(x)[0][:, -1])


class Adapted(nn.Module):
    """A frozen 64-960-960-10 with a low-rank adapter beside each layer: (W + BA) x + b, B and A of rank 4.

    Only the adapters are trained: 15,656 numbers beside 994,570 that all members share.
    """

    def __init__(self, rank: int = 4):
        super().__init__()
        sizes = list(pairwise((64, 960, 960, 10)))
        with torch.random.fork_rng():
            torch.manual_seed(0)  # as a pretrained base is: the same, whatever the seed of the adapters
            self.base = nn.ModuleList(nn.Linear(i, o) for i, o in sizes).requires_grad_(False)
        self.down = nn.ModuleList(nn.Linear(i, rank, bias=False) for i, _ in sizes)
        self.up = nn.ModuleList(nn.Linear(rank, o, bias=False) for _, o in sizes)
        for weight in self.up.parameters():
            nn.init.zeros_(weight)

    def forward(self, x: Tensor) -> Tensor:
        """f_p(x)."""
        for base, down, up in zip(self.base, self.down, self.up, strict=True):
            x = base(x) + up(down(x))
            if base is not self.base[-1]:
                x = x.relu()
        return x


NETWORKS: dict[str, type[nn.Module]] = {
    "dummynet": DummyNet,
    "mlp": MLP,
    "cnn": CNN,
    "residual": Residual,
    "encoder": Encoder,
    "lstm": Recurrent,
    "lora": Adapted,
}
