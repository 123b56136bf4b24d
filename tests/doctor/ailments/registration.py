"""Layers that the forward uses and the optimizer doesn't know."""

import torch
import torch.nn.functional as F
from doctor.ailments.fault import Fault, under
from torch import nn


class Deep(nn.Module):
    container = list

    def __init__(self, num_layers=2):
        super().__init__()
        self.inp = nn.Linear(6, 16)
        self.hids = self.container([nn.Linear(16, 16) for _ in range(num_layers)])
        self.classifier = nn.Linear(16, 3)

    def forward(self, x):
        x = torch.tanh(self.inp(x))
        for layer in self.hids:
            x = torch.tanh(layer(x))
        return self.classifier(x)


class DeepRegistered(Deep):
    container = nn.ModuleList


class TextCNN(nn.Module):
    container = list

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(30, 8)
        self.convs = self.container([nn.Conv1d(8, 6, width) for width in (2, 3, 4)])
        self.fc = nn.Linear(18, 4)

    def forward(self, x):
        x = self.embed(x).transpose(1, 2)
        x = torch.cat([F.relu(conv(x)).max(2).values for conv in self.convs], 1)
        return self.fc(x)


class TextCNNRegistered(TextCNN):
    container = nn.ModuleList


class Relations(nn.Module):
    """A map for each kind of relation."""

    container = dict

    def __init__(self):
        super().__init__()
        kinds = {name: nn.Linear(5, 12) for name in ("parent", "child")}
        self.relations = self.container(kinds)
        self.score = nn.Linear(12, 3)

    def forward(self, x):
        h = [relation(x[:, i]) for i, relation in enumerate(self.relations.values())]
        return self.score(torch.tanh(torch.stack(h).sum(0)))


class RelationsRegistered(Relations):
    container = nn.ModuleDict


class DanglingLayer(nn.Module):
    """A new convolution in every forward."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 6, 3, padding=1)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.elu(nn.Conv2d(6, 8, 1)(x))
        return self.fc(x.mean((2, 3)))


class LayerMadeOnce(DanglingLayer):
    def __init__(self):
        super().__init__()
        self.conv2 = nn.Conv2d(6, 8, 1)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.elu(self.conv2(x))
        return self.fc(x.mean((2, 3)))


class BareWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.GRU(3, 8, batch_first=True)
        self.w = self.weight((torch.rand(8, 4) - 0.5) / 2)

    def weight(self, value):
        return value.requires_grad_()

    def forward(self, x):
        return self.encoder(x)[1][-1] @ self.w


class BareWeightRegistered(BareWeight):
    def weight(self, value):
        return nn.Parameter(value)


class Closure(nn.Module):
    """A head kept in a function."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(7, 16), nn.ReLU())
        head = nn.Linear(16, 3)
        self.head = lambda x: head(x)

    def forward(self, x):
        return self.head(self.body(x))


class ClosureRegistered(Closure):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(16, 3)


FAULTS = (
    *under(
        "unregistered-layers",
        # pytorch/pytorch#666: They keep their random weights, and stay behind when the model moves to the GPU.
        Fault("hidden layers in a Python list", Deep, DeepRegistered, (6,)),
        # pytorch/pytorch#1053: After .cuda() the convolutions are still on the CPU.
        Fault("text convolutions in a Python list", TextCNN, TextCNNRegistered, (6,), tokens=30),
        # pytorch/pytorch#632: The parameters are not in model.parameters().
        Fault("layers in a dictionary", Relations, RelationsRegistered, (2, 5)),
        # lafith/Mobile-UNet#1: A new layer each time, never trained.
        Fault("convolution made in the forward", DanglingLayer, LayerMadeOnce, (2, 5, 5)),
        # It has a gradient, and the optimizer never sees it.
        Fault("weight as a plain tensor that requires a gradient", BareWeight, BareWeightRegistered, (5, 3)),
        # The head is missing from the checkpoint.
        Fault("head inside a lambda", Closure, ClosureRegistered, (7,)),
    ),
)
