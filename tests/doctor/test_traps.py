"""What looks like a mistake and is none: each is passed in silence by the rule that it could mislead."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import modelspace as ms


def seen(rule, net, shape, **given):
    found = ms.doctor(net, inputs=shape, only=[rule], **given)
    assert found.checked == (rule,), found.skipped
    return found.of(rule)


def test_log_softmax_before_cross_entropy_is_harmless():
    net = nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(1))
    assert not seen("softmax-before-cross-entropy", net, (4,), loss="cross_entropy")


def test_outputs_in_the_unit_interval_by_chance_are_no_sigmoid():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 1)
            nn.init.constant_(self.fc.bias, 0.5)
            nn.init.zeros_(self.fc.weight)

        def forward(self, x):
            return self.fc(x)

    assert not seen("sigmoid-twice", Shifted, (4,), loss="binary_cross_entropy_with_logits")


def test_batch_statistics_in_training_do_not_mix():
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3))
    assert not seen("batch-mixing", net, (4,))
    assert not seen("train-eval-gap", net, (4,))
    assert not seen("nondeterminism", net, (4,))


def test_attention_over_time_does_not_mix_and_over_the_batch_does():
    class Attention(nn.Module):
        def __init__(self, batch_first):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=batch_first)

        def forward(self, x):
            return self.attention(x, x, x, need_weights=False)[0].mean(1)

    assert not seen("batch-mixing", lambda: Attention(True), (6, 4))
    assert seen("batch-mixing", lambda: Attention(False), (6, 4))


def test_stochastic_depth_that_keeps_the_mean_leaves_no_gap():
    class Depth(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.branch, self.head = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 3)

        def forward(self, x):
            x = self.stem(x)
            kept = torch.bernoulli(x.new_full((len(x), 1), 0.8)) / 0.8 if self.training else 1.0
            return self.head(x + kept * self.branch(x).tanh())

    assert not seen("train-eval-gap", Depth, (6,))


def test_factorisations_are_no_linear_chain():
    assert not seen("linear-chain", nn.Sequential(nn.Linear(16, 2), nn.Linear(2, 16)), (16,))
    depthwise = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 1))
    assert not seen("linear-chain", depthwise, (4, 6, 6))
    assert seen("linear-chain", nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16)), (16,))


def test_a_hidden_layer_that_is_used_twice_is_no_linear_chain():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            x = self.first(x)
            return self.second(x) + x.tanh()

    assert not seen("linear-chain", Skip, (4,))


def test_adapters_beside_a_frozen_network_are_no_frozen_head():
    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.base, self.head = nn.Linear(32, 32), nn.Linear(32, 3)
            self.requires_grad_(False)
            self.down, self.up = nn.Linear(32, 2), nn.Linear(2, 32)

        def forward(self, x):
            return self.head(self.base(x) + self.up(self.down(x)))

    assert not seen("frozen-parameters", Adapted, (32,))


def test_an_expert_that_gets_no_sample_is_not_unused():
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Linear(4, 8)
            self.experts = nn.ModuleList(nn.Linear(4, 3) for _ in range(8))

        def forward(self, x):
            weights = self.gate(x).softmax(-1)
            value, chosen = weights.max(-1)
            rows = [self.experts[int(i)](row) * v for i, row, v in zip(chosen, x, value, strict=True)]
            return torch.stack(rows)

    assert not seen("unused-parameters", Experts, (4,))
    assert not seen("detached-parameters", Experts, (4,))


def test_an_autoencoder_of_images_may_end_in_a_sigmoid():
    x = torch.rand(16, 8)
    net = nn.Sequential(nn.Linear(8, 3), nn.Tanh(), nn.Linear(3, 8), nn.Sigmoid())
    assert not seen("saturating-output", net, x, labels=x, loss="mse")
    assert seen("saturating-output", net, x, labels=x - 1, loss="mse")


def test_a_cast_that_is_taken_back_is_no_leak():
    class Careful(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x):
            return self.fc(x).double().softmax(1).float()

    assert not seen("double-precision", Careful, (4,))


def test_layers_that_begin_alike_are_not_tied():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    assert not seen("ties-lost", net, (5, 8))


def test_tensors_made_on_the_input_s_device_follow_it():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.RNNCell(3, 4)

        def forward(self, x):
            h = torch.zeros(len(x), 4, device=x.device)
            g = torch.ones(4).to(x)
            for moment in x.unbind(1):
                h = self.cell(moment, h) * g
            return h

    assert not seen("unregistered-constant", Recurrent, (5, 3))


def test_what_a_forward_keeps_for_later_is_no_constant():
    class Keeping(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)
            self.last = None

        def forward(self, x):
            self.last = x.tanh()
            return self.fc(self.last)

    assert not seen("unregistered-constant", Keeping, (4,))


def test_a_default_network_of_five_layers_keeps_its_signal():
    layers = [layer for _ in range(5) for layer in (nn.Linear(32, 32), nn.ReLU())]
    assert not seen("signal-by-depth", nn.Sequential(*layers, nn.Linear(32, 3)), (32,))


def test_a_reshape_within_the_forward_may_be_undone():
    class PerFrame(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x):
            frames = self.fc(x.reshape(-1, 4))
            return frames.view(len(x), -1, 3).mean(1)

    assert not seen("batch-reshape", PerFrame, (5, 4))


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_the_floor_that_is_named_is_the_least_loss_of_probabilities(classes):
    net = nn.Sequential(nn.Linear(4, classes), nn.Softmax(1))
    found = seen("softmax-before-cross-entropy", net, (4,), loss="cross_entropy")
    best = F.cross_entropy(torch.eye(classes), torch.arange(classes))
    assert f"below {float(best):.3f}" in found[0].evidence


@pytest.mark.parametrize(
    "loss", [name for name, each in ms.losses.CATALOGUE.items() if each.outputs is not None]
)
def test_a_sound_model_is_sound_under_every_loss(loss):
    """Likelihoods whose least value is not 0, losses that start at theirs, labels of every shape: no false alarm."""
    taken = ms.losses.resolve(loss)
    wide = {"logits": 3, "embedding": 4, "log-probability": 3}.get(str(taken.outputs), 1)
    outputs = 2 if taken.labels_shape((5, 2)) == (5,) and wide == 1 else wide
    layers = [nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, outputs)]
    ends = {"probability": [nn.Sigmoid()], "log-probability": [nn.LogSoftmax(1)], "positive": [nn.Softplus()]}
    flat = [nn.Flatten(0)] if outputs == 1 else []
    found = ms.doctor(
        nn.Sequential(*layers, *ends.get(str(taken.outputs), []), *flat), inputs=(6,), loss=loss
    )
    assert found.healthy, str(found)
