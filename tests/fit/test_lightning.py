"""Lightning modules as they are: the real ones where Lightning is installed, and what they do, done by a stand-in."""

import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import modelspace as ms

DIGITS = ms.data.digits()
X, Y = DIGITS.train.inputs[:200].double(), DIGITS.train.labels[:200]
ONE = {"lowering": "vmap", "shard": 4, "workers": 1, "threads": 1}


class Accuracy(nn.Module):
    """As a metric of torchmetrics: it sums over batches in plain attributes, and keeps its value on the last."""

    def __init__(self):
        super().__init__()
        self._forward_cache = None
        self.reset()

    def reset(self):
        self.right = torch.zeros(())

    def forward(self, outputs, labels):
        self._forward_cache = (outputs.argmax(1) == labels).double().mean()
        self.right = self.right + self._forward_cache
        return self._forward_cache


class Standin(nn.Module):
    """What Lightning's class has that a step meets."""

    def __init__(self):
        super().__init__()
        self._trainer = None

    @property
    def current_epoch(self):
        return self._trainer.current_epoch if self._trainer else 0

    def save_hyperparameters(self):
        pass


def lit(base, more=lambda self, loss: None):
    """A class below Lightning's or the stand-in."""

    class Lit(base):
        def __init__(self, width=16, lr=1e-3, weight=1.0):
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Sequential(
                nn.Flatten(), nn.Linear(64, width), nn.Tanh(), nn.Linear(width, 10)
            ).double()
            self.accuracy, self.lr, self.weight = Accuracy(), lr, weight

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, batch_idx):
            outputs = self(batch[0])
            loss = self.weight * F.cross_entropy(outputs, batch[1])
            seen = self.accuracy(outputs, batch[1])
            own = base is not Standin and isinstance(
                self.accuracy, Accuracy
            )  # Lightning would log no such metric
            self.log("train_loss", loss, prog_bar=True)
            self.log_dict(
                {"train/accuracy": seen if own else self.accuracy, "size": len(outputs)}, on_epoch=True
            )
            return more(self, loss) or {"loss": loss}

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]), on_epoch=True)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=self.lr)

    return Lit


def test_names_metrics_and_their_state():
    population = ms.ModelSpace(lit(Standin)).sample(seeds=5, lr=[1e-2], weight=[2.0])
    shards = {
        **ONE,
        "shard": 3,
    }  # of three members, then of two: a sum that the first left would not fit the second
    run = ms.fit(population, (X, Y), objective="model", epochs=2, plan=shards)
    assert {c for c in run.table if c.startswith("train_")} == {"train_loss", "train_accuracy", "train_size"}
    assert run.table["validation_accuracy"].between(0, 1).all()
    loop = ms.fit(population, (X, Y), objective="model", epochs=2, plan="loop")
    for name in ("train_accuracy", "validation_accuracy"):
        pd.testing.assert_series_equal(run.table[name], loop.table[name])


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (
            lambda self, loss: {"loss": loss * self.current_epoch},
            r"self\.current_epoch, perhaps.*no Trainer here",
        ),
        (lambda self, loss: {"loss": loss * self._trainer.max_steps}, r"self\.trainer\.max_steps"),
    ],
)
def test_what_only_a_trainer_has_is_one_line(more, says):
    population = ms.ModelSpace(lit(Standin, more)).sample(seeds=2)
    with pytest.raises(ms.ModelspaceError, match=says):
        ms.fit(population, (X, Y), objective="model", epochs=1)


def test_steps_without_a_loss_are_one_line():
    class Nothing(Standin):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(64, 10)

        def training_step(self, batch, batch_idx):
            self.fc(batch[0].flatten(1).float())

    class ByHand(Nothing):
        automatic_optimization = False

    for kind, says in ((Nothing, "training_step returned None"), (ByHand, "ByHand optimizes by hand")):
        with pytest.raises(ms.ModelspaceError, match=says):
            ms.fit(ms.ModelSpace(kind).sample(seeds=1), (X, Y), epochs=1)


@pytest.mark.filterwarnings("ignore")
def test_a_real_module_trains_as_under_its_own_trainer():
    lightning = pytest.importorskip("lightning")
    kind = lit(lightning.LightningModule)
    train, validation = (DataLoader(TensorDataset(X[a:b], Y[a:b]), 32) for a, b in ((0, 160), (160, 200)))
    space = ms.ModelSpace(kind, input_shape=(1, 8, 8), input_dtype=torch.float64)
    population = space.sample(seeds=2, lr=[1e-3, 1e-2])
    run = ms.fit(population, ms.data.stream(train, validation), optimizer="adam", epochs=2, plan=ONE)
    assert ms.verify(space, (X, Y), objective="model").equivalent
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    for k, (seed, lr) in enumerate(run.table[["seed", "lr"]].to_numpy()):
        torch.manual_seed(int(seed))
        net = kind(lr=lr)
        trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", **quiet)
        trainer.fit(net, train, validation)
        for name, own in run.population.module(k).named_parameters():
            torch.testing.assert_close(own, net.get_parameter(name), rtol=0, atol=1e-10)
        logged = float(trainer.callback_metrics["val_loss"])
        assert run.table["validation_loss"][k] == pytest.approx(
            logged, rel=1e-5
        )  # Lightning keeps it in float32


@pytest.mark.filterwarnings("ignore")
def test_a_real_metric_is_computed_as_one_program():
    lightning, torchmetrics = (pytest.importorskip(name) for name in ("lightning", "torchmetrics"))

    class Lit(lit(lightning.LightningModule)):
        def __init__(self):
            super().__init__()
            self.accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=10)

    found = ms.verify(ms.ModelSpace(Lit, input_shape=(1, 8, 8), input_dtype=torch.float64), (X, Y))
    assert found.equivalent
    assert "vmap" in str(found)
