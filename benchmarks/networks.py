"""The networks that are timed, as anybody would write them."""

from pathlib import Path

from torch import Tensor, nn

from modelspace.loading import load_object

DummyNet: type[nn.Module] = load_object(
    f"{Path(__file__).resolve().parents[1] / 'examples' / 'dummynet.py'}:DummyNet"
)


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
