"""Optimizers that have not the parameters which they are taken to have."""

import copy

import torch
from doctor.ailments.fault import Fault, under
from torch import nn


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.Tanh())
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.body(x))


def whole(net):
    return torch.optim.SGD(net.parameters(), lr=0.1)


def only_the_head(net):
    return torch.optim.SGD(net.head.parameters(), lr=0.1)


def of_a_copy(net):
    return torch.optim.SGD(copy.deepcopy(net).parameters(), lr=0.1)


def body_and_all(net):
    return [torch.optim.SGD(net.body.parameters(), lr=0.1), torch.optim.SGD(net.parameters(), lr=0.1)]


def body_and_head(net):
    return [torch.optim.SGD(net.body.parameters(), lr=0.1), torch.optim.SGD(net.head.parameters(), lr=0.1)]


def all_decayed(net):
    return torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.01)


def matrices_decayed(net):
    groups = ([p for p in net.parameters() if (p.ndim < 2) == flat] for flat in (False, True))
    decays = (0.01, 0.0)
    pairs = zip(groups, decays, strict=True)
    return torch.optim.SGD([{"params": group, "weight_decay": decay} for group, decay in pairs], lr=0.1)


def faults(*rows):
    return [
        Fault(name, Body, Body, (6,), optimizer=wrong, corrected_optimizer=right)
        for name, wrong, right in rows
    ]


FAULTS = (
    *under(
        "optimizer-coverage",
        *faults(
            ("optimizer with the head alone", only_the_head, whole),
            ("optimizer made before the model was copied", of_a_copy, whole),
            ("two optimizers that share the body", body_and_all, body_and_head),
        ),
    ),
    *under(
        "decayed-biases",
        *faults(
            ("weight decay on all parameters", all_decayed, matrices_decayed),
            (
                "weight decay of Adam on all",
                lambda net: torch.optim.Adam(net.parameters(), weight_decay=0.1),
                whole,
            ),
        ),
    ),
)
