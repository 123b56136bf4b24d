"""What anybody would write: networks, what they minimise, and the loop that trains one after another.

It needs PyTorch and nothing else. The loop is the tutorial's, with its order of calls.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import cycle, islice, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.machine import seconds_of
from modelspace.examples import DummyNet

LR = 1e-3
_FIRST_STEPS = 10

Batch = tuple[Tensor, ...]  # what the network is called with, then the labels
Epochs = Sequence[Sequence[Batch]]
Architecture = Callable[[], nn.Module]
Objective = Callable[[Any, Any], Tensor]


def mlp() -> nn.Module:
    """Make a 64-64-64-10."""
    hidden = nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()
    return nn.Sequential(*hidden, nn.Linear(64, 10))


def cnn() -> nn.Module:
    """Make two convolutions of 3×3, 16 and 32 filters, on one channel of 8×8; no padding, a linear head."""
    features = nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU()
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(32 * 4 * 4, 10))


class Residual(nn.Module):
    """A stem, one residual block of 16 channels with BatchNorm, global average pooling, a linear head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        first, second = (nn.Conv2d(16, 16, 3, padding=1, bias=False) for _ in range(2))
        norms = nn.BatchNorm2d(16), nn.BatchNorm2d(16)
        self.branch = nn.Sequential(norms[0], nn.ReLU(), first, norms[1], nn.ReLU(), second)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
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
        return self.head(self.layer(self.embed(x)).mean(1))


class Recurrent(nn.Module):
    """An LSTM 8→32 over the image's 8 rows; a linear head on its last output."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 32, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
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
        for base, down, up in zip(self.base, self.down, self.up, strict=True):
            x = base(x) + up(down(x))
            if base is not self.base[-1]:
                x = x.relu()
        return x


class VAE(nn.Module):
    """An encoder 64-64-(8 means, 8 logarithms of variances), a draw, a decoder 8-64-64."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
        self.decoder = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(x).chunk(2, -1)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        return self.decoder(z), mean, log_variance


def pinn() -> nn.Module:
    """Make a 2-32-32-1 with tanh: u(t, x)."""
    return nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))


class Masked(nn.Module):
    """The same layer over 16 tokens, of which the padding is masked; 20 scores of each token."""

    def __init__(self):
        super().__init__()
        self.embed, self.place = nn.Embedding(20, 32), nn.Parameter(torch.zeros(16, 32))
        self.layer = nn.TransformerEncoderLayer(32, 4, dim_feedforward=64, dropout=0.0, batch_first=True)
        self.head = nn.Linear(32, 20)

    def forward(self, tokens: Tensor, padding: Tensor) -> Tensor:
        hidden = self.layer(self.embed(tokens) + self.place, src_key_padding_mask=padding)
        return self.head(hidden).transpose(1, 2)


class Forecaster(nn.Module):
    """A GRU of 16 units over the last values of a series; a linear head gives the next."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.GRU(1, 16, batch_first=True), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x[..., None])[0][:, -1])


NETWORKS: dict[str, Architecture] = {"dummynet": DummyNet, "mlp": mlp, "cnn": cnn, "residual": Residual}
NETWORKS |= {"encoder": Encoder, "lstm": Recurrent, "lora": Adapted}
NETWORKS |= {"vae": VAE, "pinn": pinn, "masked": Masked, "forecaster": Forecaster}


def cross_entropy(network: Any, batch: Batch) -> Tensor:
    """Of the labels that are not −100."""
    *inputs, labels = batch
    return F.cross_entropy(network(*inputs), labels)


def squared(network: Any, batch: Batch) -> Tensor:
    return F.mse_loss(network(batch[0]), batch[1])


def elbo(network: Any, batch: Batch) -> Tensor:
    """The negative evidence lower bound, up to a constant."""
    outputs, mean, log_variance = network(batch[0])
    error = (outputs - batch[0]).square().sum(-1)
    return (error + (mean**2 + log_variance.exp() - 1 - log_variance).sum(-1) / 2).mean()


def burgers(network: Any, batch: Batch) -> Tensor:
    """Burgers' equation, u_t + u u_x = u_xx / 100 at points (t, x), and u(0, x) there."""
    t, x = (part.detach().requires_grad_() for part in batch[0].split(1, 1))
    u = network(torch.cat([t, x], 1))
    u_t, u_x = torch.autograd.grad(u.sum(), (t, x), create_graph=True)
    (u_xx,) = torch.autograd.grad(u_x.sum(), x, create_graph=True)
    start = F.mse_loss(network(torch.cat([torch.zeros_like(t), x], 1)), batch[1])
    return (u_t + u * u_x - u_xx / 100).square().mean() + start


OBJECTIVES: dict[str, Objective] = dict.fromkeys(NETWORKS, cross_entropy)
OBJECTIVES |= {"vae": elbo, "pinn": burgers, "forecaster": squared}


def fresh(architecture: Architecture, seed: int, device: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Draw a network from a seed, put it on a device, and make its ``torch.optim.Adam`` as it comes."""
    torch.manual_seed(seed)
    network = architecture().to(device)
    return network, torch.optim.Adam(network.parameters(), lr=LR)


def train(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    objective: Objective = cross_entropy,
) -> None:
    """Make one step a batch."""
    for batch in batches:
        optimizer.zero_grad()
        objective(network, batch).backward()
        optimizer.step()


class Steps:
    """Steps of one network over batches on the device: no data loader, nothing that a careful user does not pay."""

    def __init__(self, network: str, batches: Sequence[Batch], device: str = "cpu"):
        self._architecture, self._objective = NETWORKS[network], OBJECTIVES[network]
        self._batches, self._device = batches, device
        self._step_ms = self._timed(_FIRST_STEPS, seed=0)

    def milliseconds(self, seconds: float, seed: int) -> float:
        """Time a step of a fresh network, over about so many seconds."""
        steps = max(_FIRST_STEPS, round(seconds * 1e3 / self._step_ms))
        self._step_ms = self._timed(steps, seed)
        return self._step_ms

    def _timed(self, steps: int, seed: int) -> float:
        network, optimizer = fresh(self._architecture, seed, self._device)
        train(network, optimizer, self._batches[:3], self._objective)  # warms up, and makes Adam's state
        batches = list(islice(cycle(self._batches), steps))
        work = partial(train, network, optimizer, batches, self._objective)
        return seconds_of(work, self._device) * 1e3 / steps


def whole_network_seconds(
    architecture: Architecture, device: str, epochs: Epochs, validation: Batch, test: Batch | None, seed: int
) -> float:
    """Time one network from its seed to its scores: made, trained, validated after each epoch as ``fit`` does.

    The samples lie on the device, gathered into batches, before the clock starts.
    """

    def whole() -> None:
        network, optimizer = fresh(architecture, seed, device)
        for batches in epochs:
            network.train()
            train(network, optimizer, batches)
            scores(network, *validation)
        if test is not None:
            scores(network, *test)

    return seconds_of(whole, device)


def scores(network: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[float, float]:
    """Loss and accuracy of a whole split."""
    network.eval()
    with torch.no_grad():
        outputs = network(inputs)
        loss = F.cross_entropy(outputs, labels)
        accuracy = (outputs.argmax(1) == labels).double().mean()
    return loss.item(), accuracy.item()
