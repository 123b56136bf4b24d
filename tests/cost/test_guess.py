import pytest
import torch
from torch import nn

from modelspace.cost import guessed, inspect
from modelspace.errors import ModelspaceError
from modelspace.examples import DummyNet


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 8)
        self.head = nn.Linear(8, 50)

    def forward(self, x):
        return self.head(self.table(x))


class Short(Tokens):
    """Learned positions: no more than 16."""

    def __init__(self):
        super().__init__()
        self.places = nn.Parameter(torch.zeros(16, 8))

    def forward(self, x):
        return self.head(self.table(x) + self.places[: x.shape[1]])


class Steps(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(5, 6, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[0]


def cnn(side):
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * (side - 2) ** 2, 4))


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(49, 10)), (49,)),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)), (3, 224, 224)),
        (cnn(32), (1, 32, 32)),
        (cnn(28), (1, 28, 28)),
        (cnn(9), (1, 9, 9)),
        (nn.Conv1d(2, 3, 5), (2, 224)),
        (Tokens(), (128,)),
        (Short(), (16,)),
        (Steps(), (16, 5)),
    ],
)  # fmt: skip
def test_the_first_layers_tell(net, shape):
    sample = guessed(net)
    assert sample.shape == shape
    assert sample.guessed


def test_a_view_that_mixes_samples_is_no_guess():
    # 32×32 runs too, and gives 36 rows for each sample.
    assert guessed(DummyNet()).shape == (3, 7, 7)


def test_types_follow_the_module():
    assert guessed(nn.Linear(4, 3).double()).inputs[0].dtype == torch.float64
    assert guessed(Tokens()).inputs[0].dtype == torch.long
    assert inspect(Tokens(), (7,)).anatomy.input_shape == (7,)


def test_who_does_not_tell_is_asked():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x, y):
            return self.fc(x) + y

    with pytest.raises(
        ModelspaceError, match=r"Two don't tell what it takes \(it runs on none of 3\): .*input_shape="
    ):
        guessed(Two())
    with pytest.raises(ModelspaceError, match="none has a known input"):
        guessed(nn.Identity())


def test_a_guess_is_said_and_a_given_shape_is_not():
    assert "guessed: 1 (Linear) takes 49 features" in repr(
        inspect(nn.Sequential(nn.Flatten(), nn.Linear(49, 2)))
    )
    assert "guessed" not in repr(inspect(nn.Linear(4, 2), (4,)))
